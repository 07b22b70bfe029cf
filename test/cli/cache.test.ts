import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { defineApp, defineKey, defineModule, warm } from 'rung'
import { main } from '../../src/cli/main.ts'
import { cacheLog } from '../../src/observe/cache-log.ts'
import { metricsPath } from '../../src/observe/metrics.ts'
import { observe } from '../../src/observe/observe.ts'
import type { ProcessFigures } from '../../src/primitives/cache/figures.ts'
import type { Running } from '../../src/runtime/boot.ts'
import type { Log } from '../../src/runtime/log.ts'
import { bootForTest } from '../support/app.ts'
import { type TestPostgres, testPostgres, urlOf } from '../support/postgres.ts'
import { until } from '../support/process.ts'
import { noRedis, type TestRedis, testRedis } from '../support/redis.ts'

const thing = defineKey<{ id: number; text: string }, [id: number]>('thing')
const module = defineModule({
  name: 'm',
  owner: 'tests',
  routes(http, { cache }) {
    http.get('/things/:id', async (request) => {
      const id = Number((request.params as { id: string }).id)
      return cache.get(thing(id), { ttl: '1h', tags: [`thing:${id}`] }, () => {
        if (id === 404) throw new Error('there is none')
        return { id, text: 'x'.repeat(100 * id) }
      })
    })
  },
  warm: () => [warm('nothing', [])],
})
const app = defineApp({ name: 'a', modules: [module] })

interface View {
  processes: ProcessFigures[]
  groups: { group: string; hits: number; loads: number; failures: number }[]
  hottest: { key: string }[]
  largest: { key: string }[]
}

describe('rung cache', { skip: noRedis }, () => {
  let postgres: TestPostgres
  let redis: TestRedis
  let running: Running
  let env: Record<string, string>
  const lines: string[] = []
  before(async () => {
    postgres = await testPostgres()
    redis = await testRedis()
    const DATABASE_URL = urlOf(await postgres.createDatabase())
    env = { DATABASE_URL, RUNG_REDIS_URL: redis.url, RUNG_TOPOLOGY: '10k' }
    const log = { warn: (_facts: object, text: string) => void lines.push(text), debug() {} } as unknown as Log
    running = await bootForTest(app, postgres, {}, [observe(), (http, { data }) => cacheLog(http, data, log)], env)
  })
  after(async () => {
    await running?.stop()
    await redis.stop()
    await postgres.stop()
  })

  async function rung(...args: string[]) {
    const told = { lines: [] as string[], json: undefined as unknown, notes: [] as string[] }
    const code = await main(['cache', ...args], env, process.cwd(), {
      line: (text = '') => void told.lines.push(text),
      json: (value) => {
        told.json = value
      },
      note: (text) => void told.notes.push(text),
    })
    return { code, ...told }
  }
  const ask = async (id: number) => (await fetch(`${running.url}/things/${id}`)).status
  const figures = async (): Promise<View> => (await rung('--json')).json as View

  async function metric(line: string): Promise<number | undefined> {
    const text = await (await fetch(running.url + metricsPath)).text()
    const found = text.split('\n').find((one) => one.startsWith(`${line} `))
    return found === undefined ? undefined : Number(found.slice(line.length + 1))
  }

  it('says what to do where nothing is cached', async () => {
    const { code, lines: shown } = await rung()
    assert.equal(code, 0)
    assert.match(shown.join(' '), /No running process has used its cache\. Start the app/)
    assert.deepEqual((await figures()).processes, [])
  })

  it('shows what each kind of key was asked for, and what is held', async () => {
    for (const id of [1, 2, 2, 2, 30, 404]) await ask(id)
    const view = await until(async () => {
      const now = await figures()
      return now.groups[0]?.failures === 1 && now
    }, 'the process has told')
    assert.equal(view.processes.length, 1)
    assert.equal(view.processes[0]!.process.endsWith(`:${process.pid}`), true)
    assert.equal(view.processes[0]!.shared?.up, true)
    assert.ok(view.processes[0]!.shared!.facts!.keys > 0)
    assert.deepEqual([view.groups[0]!.hits, view.groups[0]!.loads], [2, 4])
    assert.match(view.hottest[0]!.key, /^m\/thing:2$/)
    assert.match(view.largest[0]!.key, /^m\/thing:30$/)
    const { lines: shown } = await rung()
    const text = shown.join('\n')
    assert.match(text, /^1 process; in memory: 3 entries, /)
    assert.match(text, /^shared: (Redis|Valkey) \d.* keys, /m)
    assert.match(text, /^warmed: 0 items in \d/m)
    assert.match(text, /^loads saved: 2 of 6 \(33\.3 %\)$/m)
    assert.match(text, /^m\/thing +6 +33\.3 % +- +- +- +4 /m)
    assert.match(text, /^ {2}1 loads failed$/m)
    assert.deepEqual(
      shown.filter((line) => line.length > 80),
      [],
    )
  })

  it('invalidates', async () => {
    const loads = async () => (await metric('cache_load_seconds_count{module="m",group="thing"}')) ?? 0
    const before = await loads()
    await ask(2)
    assert.equal(await loads(), before)
    assert.equal((await rung('invalidate', 'm', 'thing:2')).code, 0)
    await until(async () => {
      await ask(2)
      return (await loads()) === before + 1
    }, 'it was loaded again')
    assert.equal(await ask(1), 200)
    assert.equal(await loads(), before + 1, 'only that')
    for (const wrong of [['invalidate'], ['invalidate', 'm'], ['dance']]) {
      const { code, notes } = await rung(...wrong)
      assert.equal(code, 1)
      assert.match(notes.join(' '), /rung cache/)
    }
  })

  it('is counted in the metrics; a line tells when the shared layer goes and comes', async () => {
    const labels = (outcome: string) => `cache_requests_total{module="m",group="thing",outcome="${outcome}"}`
    assert.ok((await metric(labels('memory')))! >= 2)
    assert.ok((await metric(labels('loaded')))! >= 3)
    assert.equal(await metric(labels('failed')), 1)
    // What is loaded while an invalidation is being applied is not kept: the next one is.
    await until(async () => (await ask(2)) === 200 && (await metric('cache_entries')) === 3, 'all are held')
    assert.ok((await metric('cache_bytes'))! > 6_000)
    assert.ok((await metric('cache_load_seconds_sum{module="m",group="thing"}')) !== undefined)
    await until(async () => (await metric('cache_shared_up')) === 1, 'it is up')
    lines.length = 0 // a machine that is busy may have let it go, and come, before
    await redis.kill()
    await until(async () => (await metric('cache_shared_up')) === 0, 'it is down')
    assert.equal(await ask(77), 200)
    assert.ok((await metric('cache_failures_total{part="shared"}'))! >= 1)
    await redis.start()
    await until(async () => (await metric('cache_shared_up')) === 1, 'it is up')
    assert.deepEqual(
      lines.map((line) => line.replace(/ \(.*\)/, '')),
      [
        'the shared layer of the cache cannot be used: until it is back, each process loads for itself',
        'the shared layer of the cache is used again',
      ],
    )
  })

  it('shows only processes that run', async () => {
    await running.stop()
    assert.deepEqual((await figures()).processes, [])
  })
})
