import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { setTimeout as wait } from 'node:timers/promises'
import { type LoadResult, runLoadInThreads } from '../src/load.ts'
import type { Bench } from './run.ts'
import { attempted } from './support/calm.ts'
import { type LoadRequest, sendRequests } from './support/load.ts'
import type { Overload } from './support/overload.ts'
import { end, firstDocument, seed, startNode } from './support/processes.ts'
import { inWords, machineFacts, progress, rounded, spread, table } from './support/report.ts'
import { logIn, requestsOf, sceneOf } from './support/scene.ts'

const articles = 2_000
const web = 1
/** CPU cores of the web process: the generator and the edge have the rest. */
const nodeCpu = 0.2
const times = 10
/** Of the peak, so that they alone would be no overload. */
const importantShare = 0.2
const seconds = 12
const counted = 1_500

interface Round {
  /** Answers in a second of as many visitors as the app likes. */
  peak: number
  /** Good answers in a second at ten times that rate. */
  goodput: number
  /** Share of important requests that were good. */
  important: number
  /** By kind, of all. */
  failures: Record<string, number>
}

/** Caches are off: with them most reads reach neither app nor Postgres. */
const bench: Bench = {
  claim: 'at ten times the peak rate at least 90 % of the peak is answered in time, and 99.9 % of what is important',
  async run({ json, rounds = 5 }) {
    const dir = await mkdtemp(path.join(tmpdir(), 'rung-bench-overload-'))
    const up = startNode(
      [
        ...['--conditions=rung-source', 'src/cli/bin.js', 'up', '10k', 'examples/conduit/app.ts', '--json'],
        ...['--port', '0', '--web', String(web)],
      ],
      {
        ...{ RUNG_DATA: dir, NODE_ENV: 'production', RUNG_SHEDDING: 'on', RUNG_CACHE: 'off' },
        ...{ RUNG_NODE_CPU: String(nodeCpu), LOG_LEVEL: 'error' },
      },
    )
    try {
      const { url } = await firstDocument<{ url: string }>(up)
      await seed(dir, articles)
      const scene = await sceneOf(dir)
      const { slug, list } = requestsOf(scene, await logIn(url, scene.viewers.slice(0, 1)))
      const peakOf = async () => {
        const startedAt = performance.now()
        const { failures } = await sendRequests({ url, requests: mixed(slug, list), count: counted, connections: 32 })
        return (1_000 * (counted - failures)) / (performance.now() - startedAt)
      }
      await peakOf() // compiles
      const results: Round[] = []
      for (let round = 0; round < rounds; round += 1) {
        const peak = await peakOf()
        const importantRate = Math.round(importantShare * peak)
        const otherRate = Math.round(times * peak) - importantRate
        const job: Overload = { url, important: slug, other: list, importantRate, otherRate, seconds }
        const module = new URL('support/overload.ts', import.meta.url)
        const result = await attempted(() => runLoadInThreads(module, job))
        await settled(`${url}${slug[0]!.path}`)
        if (!result) continue
        const good = goodOf(result, 'important') + goodOf(result, 'other')
        const important = goodOf(result, 'important') / result.routes.get('important')!.latency.count
        const one = { peak, goodput: good / result.seconds, important, failures: result.all.failures }
        results.push(one)
        progress(JSON.stringify(one))
      }
      const share = spread(results.map(({ peak, goodput }) => goodput / peak))
      const important = spread(results.map((one) => one.important))
      if (!json) {
        const rows = [
          ['peak, answers/s', inWords(spread(results.map(({ peak }) => peak)), 0)],
          [`good answers/s at ${times} times that`, inWords(spread(results.map(({ goodput }) => goodput)), 0)],
          ['share of the peak', inWords(share)],
          ['share of important ones', inWords(important, 4)],
        ]
        progress(table(rows))
      }
      return {
        claim: bench.claim,
        facts: machineFacts('18'),
        ...{ web, nodeCpu, times, articles, rounds: results },
        ...{ goodputToPeak: rounded(share), important: rounded(important) },
      }
    } finally {
      await end(up)
      await rm(dir, { recursive: true, force: true })
    }
  },
}
export default bench

/** What is left of the overload has been worked off when one answer comes at once. */
async function settled(url: string): Promise<void> {
  for (;;) {
    const startedAt = performance.now()
    const isAnswered = await fetch(url, { signal: AbortSignal.timeout(10_000) }).then(
      ({ ok }) => ok,
      () => false,
    )
    if (isAnswered && performance.now() - startedAt < 200) return
    await wait(200)
  }
}

/** As many important ones as in the overload, for what was answered. */
function mixed(important: readonly LoadRequest[], other: readonly LoadRequest[]): LoadRequest[] {
  return Array.from({ length: 1_000 }, (_, n) => (n % 5 === 0 ? important : other)[n % 100]!)
}

function goodOf({ routes }: LoadResult, name: string): number {
  const route = routes.get(name)
  if (!route) return 0
  return route.latency.count - Object.values(route.failures).reduce((sum, one) => sum + one, 0)
}
