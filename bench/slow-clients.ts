import { fork } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Bench } from './run.ts'
import { runCalm } from './support/calm.ts'
import type { LoadRequest } from './support/load.ts'
import { end, firstDocument, seed, startNode } from './support/processes.ts'
import { inWords, machineFacts, progress, rounded, spread, table } from './support/report.ts'
import { logIn, mixOf, requestsOf, sceneOf } from './support/scene.ts'

const clients = 5_000
const articles = 2_000
/** CPU cores of each of two web processes: the generator has a core. */
const nodeCpu = 0.35
const rate = 40
const seconds = 20
/** One of so many requests is a comment, whose body arrives among those of slow clients. */
const commentEvery = 10

interface Round {
  aloneMs: number
  besideMs: number
  /** By kind. */
  failures: Record<string, number>
  thrownOut: number
}

const bench: Bench = {
  claim: '5,000 slow clients (headers, bodies, readers) move the p95 of others by at most 10 %',
  async run({ json, rounds = 5 }) {
    const dir = await mkdtemp(path.join(tmpdir(), 'rung-bench-slow-'))
    const up = startNode(
      [
        '--conditions=rung-source',
        'src/cli/bin.js',
        'up',
        '10k',
        'examples/conduit/app.ts',
        '--json',
        '--port',
        '0',
      ].concat('--web', '2'),
      {
        RUNG_DATA: dir,
        NODE_ENV: 'production',
        RUNG_SHEDDING: 'on',
        RUNG_NODE_CPU: String(nodeCpu),
        LOG_LEVEL: 'error',
      },
    )
    try {
      const { url } = await firstDocument<{ url: string }>(up)
      await seed(dir, articles)
      const scene = await sceneOf(dir)
      const tokens = await logIn(url, scene.viewers.slice(0, 10))
      const requests = mixOf(requestsOf(scene, tokens)).map((request, n): LoadRequest => {
        if (n % commentEvery > 0) return request
        const authorization = `Token ${tokens[n % tokens.length]}`
        const commented = `/api/articles/${scene.slugs[n % scene.slugs.length]}/comments`
        return { method: 'POST', path: commented, headers: { authorization }, body: { comment: { body: 'Well said' } } }
      })
      const measured = async () => {
        const all = (await runCalm({ url, requests, rate, seconds }))?.all
        return { p95Ms: all?.latency.at(0.95) ?? Number.NaN, failures: all?.failures ?? {} }
      }
      await measured() // compiles, and fills the caches
      const slow = fork(fileURLToPath(new URL('support/slow-clients.ts', import.meta.url)), [
        url,
        '/api/articles?limit=100',
      ])
      const tell = async (count: number) => {
        slow.send(count)
        const [told] = (await once(slow, 'message')) as [{ thrownOut: number }]
        return told
      }
      const results: Round[] = []
      try {
        for (let round = 0; round < rounds; round += 1) {
          const alone = async () => (await measured()).p95Ms
          const beside = async () => {
            await tell(clients)
            const found = await measured()
            const { thrownOut } = await tell(0)
            return { ...found, thrownOut }
          }
          // In turns, so that whatever changes with time is in both.
          const early = round % 2 === 0 ? await alone() : undefined
          const { p95Ms: besideMs, failures, thrownOut } = await beside()
          const one = { aloneMs: early ?? (await alone()), besideMs, failures, thrownOut }
          progress(JSON.stringify(one))
          if (one.aloneMs > 0 && one.besideMs > 0) results.push(one) // otherwise the machine was too busy
        }
      } finally {
        slow.kill()
      }
      const ratio = spread(results.map(({ aloneMs, besideMs }) => besideMs / aloneMs))
      const aloneMs = spread(results.map((one) => one.aloneMs))
      const besideMs = spread(results.map((one) => one.besideMs))
      const failed = results.flatMap((one) => Object.values(one.failures)).reduce((sum, count) => sum + count, 0)
      if (!json) {
        const rows = [
          ['p95 alone, ms', inWords(aloneMs, 1)],
          [`p95 beside ${clients} slow clients, ms`, inWords(besideMs, 1)],
          ['ratio', inWords(ratio)],
          ['failed', String(failed)],
        ]
        progress(table(rows))
      }
      return {
        claim: bench.claim,
        facts: machineFacts('18'),
        ...{ clients, nodeCpu, rate, articles, failed, rounds: results },
        ...{ aloneMs: rounded(aloneMs), besideMs: rounded(besideMs), ratio: rounded(ratio) },
      }
    } finally {
      await end(up)
      await rm(dir, { recursive: true, force: true })
    }
  },
}
export default bench
