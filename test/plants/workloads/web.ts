import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import type { Recorder } from '../../../src/history.ts'
import { sleep } from '../../../src/kernel/clock.ts'
import { type Random, seededRandom } from '../../../src/kernel/random.ts'
import { bootForTest } from '../../support/app.ts'
import { gate } from '../../support/cache.ts'
import { urlOf } from '../../support/postgres.ts'
import { testRedis } from '../../support/redis.ts'
import { startCluster } from '../../support/standby.ts'
import app, { gates } from '../app/app.ts'
import type { Workload } from '../workload.ts'

const [clients, steps, counters] = [6, 12, 3]
const applyDelayMs = 250

/**
 * Clients send several requests at once to two nodes, over a primary, a replica that is late, and a cache that both share. Some keep cookies
 * as browsers do, the others are known by their principal.
 */
const web: Workload = {
  promises: ['read-your-writes', 'monotonic-reads', 'writes-follow-reads', 'no-stale-set', 'no-lost-update'],
  async open(postgres) {
    const dir = await mkdtemp(path.join(tmpdir(), 'rung-test-'))
    const [cluster, redis] = await Promise.all([startCluster(dir, 1, { applyDelayMs }), testRedis()])
    const settings = {
      RUNG_TOPOLOGY: '10k',
      RUNG_ROLE: 'web',
      RUNG_SHEDDING: 'off',
      RUNG_REDIS_URL: redis.url,
      DATABASE_URL: urlOf(cluster.primary.connection),
      DATABASE_READ_URL: urlOf(cluster.replicas[0]!.connection),
    }
    const nodes = [
      await bootForTest(app, postgres, {}, [], settings),
      await bootForTest(app, postgres, {}, [], settings),
    ]
    const urls = nodes.map(({ url }) => url)
    return {
      async run(seed, recorder) {
        const parts = { seed, random: seededRandom(seed), urls, recorder }
        await Promise.all(Array.from({ length: clients }, (_, n) => visit(`client ${n}`, n % 2 === 0, parts)))
      },
      async close() {
        for (const node of nodes) await node.stop()
        await redis.stop()
        await cluster.stop()
        await rm(dir, { recursive: true, force: true })
      },
    }
  },
}
export default web

interface Parts {
  seed: number
  random: Random
  urls: readonly string[]
  recorder: Recorder
}

async function visit(session: string, keepsCookies: boolean, { seed, random, urls, recorder }: Parts): Promise<void> {
  /** The last one of each name, as browsers keep them. */
  const cookies = new Map<string, string>()
  const credentials = (): Record<string, string> =>
    keepsCookies
      ? { cookie: [...cookies].map(([name, value]) => `${name}=${value}`).join('; ') }
      : { authorization: `${session} of ${seed}` }

  async function ask(path: 'counters' | 'cached', key: string, method = 'GET', query = ''): Promise<void> {
    const at = Math.floor(random() * urls.length)
    const kind = method === 'GET' ? 'read' : 'write'
    const cached = path === 'cached'
    const asking = recorder.begin({ kind, session, key, node: `node ${at}`, ...(cached && { cached }) })
    const answer = await fetch(`${urls[at]}/${path}/${key}${query}`, { method, headers: credentials() })
    const text = await answer.text()
    if (!answer.ok) throw new Error(`${answer.status} ${text}`)
    for (const cookie of answer.headers.getSetCookie()) {
      const [, name, value] = /^([^=]+)=([^;]*)/.exec(cookie)!
      cookies.set(name!, value!)
    }
    const { n } = JSON.parse(text) as { n: number }
    asking.ok(n === 0 ? { value: null as never } : { version: n })
  }

  const pick = () => `${seed}-${Math.floor(random() * counters)}`
  for (let step = 0; step < steps; step += 1) {
    const [key, chance] = [pick(), random()]
    if (chance < 0.2) await ask('counters', key, 'POST')
    else if (chance < 0.35) {
      // The read is answered after the write.
      const [name, { open, opened }] = [`${session} ${step}`, gate()]
      gates.set(name, opened)
      const slow = ask('counters', pick(), 'GET', `?gate=${name}`)
      await ask('counters', key, 'POST')
      open()
      await slow
      await ask('counters', key)
    } else {
      await ask('cached', key)
      await ask('counters', key)
    }
    await sleep(random() * 10)
  }
}
