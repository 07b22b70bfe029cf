import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { defineApp, defineKey, defineModule, warm } from 'rung'
import { Type } from 'typebox'
import { metricsPath } from '../../../src/observe/metrics.ts'
import { observe } from '../../../src/observe/observe.ts'
import type { BootOptions } from '../../../src/runtime/boot.ts'
import { bootForTest } from '../../support/app.ts'
import { gate } from '../../support/cache.ts'
import { type TestPostgres, testPostgres, urlOf } from '../../support/postgres.ts'
import { until } from '../../support/process.ts'
import { noRedis, patientRedis, testRedis } from '../../support/redis.ts'

const hot = ['a', 'b', 'c', 'd', 'e']
const thing = defineKey<string, [name: string]>('thing')

/** An app with hot things and hot pages, and what it loaded. */
function shop(parts: { list?: () => readonly string[]; held?: Promise<void>; paths?: readonly string[] } = {}) {
  const loads: string[] = []
  const load = (name: string) => {
    loads.push(name)
    return name
  }
  const module = defineModule({
    name: 'shop',
    owner: 'tests',
    routes(http, { cache }) {
      http.get('/things/:name', { schema: { params: Type.Object({ name: Type.String() }) } }, ({ params: { name } }) =>
        cache.get(thing(name), { ttl: '1h', tags: [name] }, () => load(name)),
      )
      const params = Type.Object({ page: Type.Integer() })
      http.get('/pages/:page', { schema: { params }, config: { cache: { ttl: '1h', tags: ['pages'] } } }, (request) => {
        loads.push(request.url)
        return request.params
      })
    },
    warm: ({ cache }) => [
      warm('things', parts.list ?? hot, async (name) => {
        await parts.held
        if (name === 'bad') throw new Error('nobody can load this')
        return cache.get(thing(name), { ttl: '1h', tags: [name] }, () => load(name))
      }),
      warm('pages', parts.paths ?? ['/pages/1', '/pages/2', '/pages/3']),
    ],
  })
  return { app: defineApp({ name: 'shop', modules: [module], limits: { address: { max: 2, per: '1m' } } }), loads }
}

/** What the process says, as an extension. */
function said(): { lines: string[]; hear: NonNullable<BootOptions['extensions']>[number] } {
  const lines: string[] = []
  const hear = (_http: unknown, { log }: { log: { warn: unknown; debug: unknown } }) => {
    log.warn = (_facts: object, text: string) => lines.push(`warn ${text}`)
    log.debug = ({ event }: { event?: string }, text: string) => {
      if (event === 'cache-warmed') lines.push(`debug ${text.replace(/\d+ ms/, 'N ms')}`)
    }
  }
  return { lines, hear: hear as never }
}

let postgres: TestPostgres
before(async () => {
  postgres = await testPostgres()
})
after(() => postgres.stop())

describe('warming at the start', () => {
  it('is done before anybody can ask, and counts towards nobody limits', async () => {
    const { app, loads } = shop()
    const { lines, hear } = said()
    const running = await bootForTest(app, postgres, { limits: 'on' }, [hear])
    try {
      assert.deepEqual(lines, ['debug the cache is warm: 8 items in N ms'])
      const loaded = [...hot, '/pages/1', '/pages/2', '/pages/3']
      assert.deepEqual(loads.toSorted(), loaded.toSorted())
      const answers = [await fetch(`${running.url}/things/a`), await fetch(`${running.url}/pages/2`)]
      assert.deepEqual(
        answers.map(({ status }) => status),
        [200, 200],
      )
      assert.match(answers[1]!.headers.get('ratelimit')!, /r=0/)
      assert.equal(loads.length, loaded.length, 'nothing was loaded for them')
    } finally {
      await running.stop()
    }
  })

  it('asks for pages like anybody else, and none counts as given up', async () => {
    const running = await bootForTest(shop().app, postgres, {}, [observe()])
    try {
      const metrics = await (await fetch(`${running.url}${metricsPath}`)).text()
      const counts = metrics.split('\n').filter((line) => /^http_request_duration_seconds_count.*pages/.test(line))
      assert.equal(counts.length, 1)
      assert.match(counts[0]!, /status="200".* 3$/)
    } finally {
      await running.stop()
    }
  })

  it('says once what it could not warm, and starts', async () => {
    const list = () => ['bad', 'a', 'bad']
    const { app, loads } = shop({ list, paths: ['/nowhere', '/things/a', '/pages/x'] })
    const { lines, hear } = said()
    await (await bootForTest(app, postgres, {}, [hear])).stop()
    assert.deepEqual(lines, [
      'warn warming shop/things failed: nobody can load this',
      'warn warming shop/pages failed: GET /nowhere answered 404',
      'debug the cache is warm: 6 items in N ms, 5 failed',
    ])
    assert.deepEqual(loads, ['a'])
    const other = shop({
      paths: ['/things/a'],
      list: () => {
        throw new Error('no list')
      },
    })
    lines.length = 0
    await (await bootForTest(other.app, postgres, {}, [hear])).stop()
    assert.match(lines[0]!, /warming shop\/things failed: no list/)
    assert.match(lines[1]!, /GET \/things\/a keeps no answer: give its route a cache/)
  })

  it('goes on beside the requests where it takes long', async () => {
    const { open, opened } = gate()
    const { app, loads } = shop({ held: opened })
    const running = await bootForTest(app, postgres)
    try {
      assert.deepEqual(loads, [])
      assert.equal(await (await fetch(`${running.url}/things/a`)).text(), 'a')
      open()
      await until(() => loads.length === 8, 'it is warm')
    } finally {
      await running.stop()
    }
  })

  it('is left out where nothing is kept, and where no requests are taken', async () => {
    for (const settings of [{ RUNG_CACHE: 'off' }, { RUNG_ROLE: 'worker' }]) {
      const { app, loads } = shop()
      await (await bootForTest(app, postgres, {}, [], settings)).stop()
      assert.deepEqual(loads, [])
    }
  })
})

describe('warming after a flush', { skip: noRedis }, () => {
  it('loads each item once for all processes; one that starts later loads nothing', async () => {
    const redis = await testRedis()
    const DATABASE_URL = urlOf(await postgres.createDatabase())
    const settings = { DATABASE_URL, RUNG_REDIS_URL: redis.url }
    const one = shop()
    const two = shop()
    const processes = [
      await bootForTest(one.app, postgres, {}, [], settings),
      await bootForTest(two.app, postgres, {}, [], settings),
    ]
    const loaded = () => [...one.loads, ...two.loads].toSorted()
    const all = [...hot, '/pages/1', '/pages/2', '/pages/3'].toSorted()
    try {
      assert.deepEqual(loaded(), all, 'the second process took all from the shared layer')
      // A Redis that answers later than its clients wait, as it may on a busy machine, lets both load: so a round may be had again.
      for (let round = 1; ; round += 1) {
        for (const { loads } of [one, two]) loads.length = 0
        const admin = await patientRedis(redis.url)
        await admin.call('FLUSHALL')
        admin.close()
        // Nobody asks: they hear of it by themselves.
        await until(() => loaded().length >= all.length, 'all is there again')
        const three = shop()
        const { lines, hear } = said()
        await (await bootForTest(three.app, postgres, {}, [hear], settings)).stop()
        assert.deepEqual(lines, ['debug the cache is warm: 8 items in N ms'])
        if (round < 4 && loaded().length + three.loads.length > all.length) continue
        assert.deepEqual(three.loads, [])
        assert.deepEqual(loaded(), all, 'once for both')
        break
      }
    } finally {
      for (const process of processes) await process.stop()
      await redis.stop()
    }
  })
})
