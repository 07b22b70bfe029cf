import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import type { Bench, BenchOptions } from './run.ts'
import { compare } from './support/compare.ts'
import { sendRequests } from './support/load.ts'
import { type Contender, end, firstDocument, seed, startLikeApp } from './support/processes.ts'
import { inWords, machineFacts, rounded, table } from './support/report.ts'
import { countOf, requestsOf, sceneOf } from './support/scene.ts'

const target = 1.15

/** What metrics, the request log, and the watch for slow and repeated statements cost a request. */
const bench: Bench = {
  claim: 'observability costs a request at most 15 % more CPU',
  async run(options) {
    return { claim: bench.claim, ...(await compareServed(['bare', 'observed'], target, options)) }
  },
}
export default bench

export type Served = 'bare' | 'observed' | 'traced'

/** Compares what a request for the list costs two processes that differ in what they watch. */
export async function compareServed(
  pair: readonly [off: Served, on: Served],
  target: number,
  { data, rounds = 9, json }: Pick<BenchOptions, 'data' | 'rounds' | 'json'>,
) {
  const dir = data ?? (await mkdtemp(path.join(tmpdir(), 'rung-bench-')))
  const stops: (() => Promise<void>)[] = []
  try {
    const sides = []
    let postgres = ''
    for (const how of pair) {
      const place = path.resolve(dir, how === pair[0] ? 'floor' : 'conduit')
      await seed(place, 10_000)
      const scene = await sceneOf(place)
      postgres = scene.postgres
      const contender = await startServed(place, how)
      stops.push(contender.stop)
      sides.push({ contender, requests: requestsOf(scene, []).list })
    }
    for (const { contender, requests } of sides) {
      await sendRequests({ url: contender.url, requests, count: 5 * countOf.list, connections: 16 })
    }
    const { first, second, ratio, firstApp, secondApp } = await compare(
      'list',
      [sides[0]!, sides[1]!],
      rounds,
      countOf.list,
    )
    if (!json) {
      const row = ['list', first.median.toFixed(3), second.median.toFixed(3), inWords(ratio), target.toFixed(2)]
      process.stdout.write('\nCPU of the app and its Postgres, ms a request\n')
      process.stdout.write(`${table([['route', ...pair, 'ratio', 'target'], row])}\n`)
    }
    return {
      facts: machineFacts(postgres),
      target,
      offMs: rounded(first),
      onMs: rounded(second),
      appMs: { off: rounded(firstApp), on: rounded(secondApp) },
      ratio: rounded(ratio),
    }
  } finally {
    for (const stop of stops.reverse()) await stop()
    if (data === undefined) await rm(dir, { recursive: true, force: true })
  }
}

async function startServed(dataDir: string, how: Served): Promise<Contender> {
  const child = startLikeApp(['bench/support/serve.ts', how], { RUNG_DATA: dataDir, PORT: '0' })
  const { url, postgresPid } = await firstDocument<{ url: string; postgresPid: number }>(child)
  return { name: how, url, pid: child.pid!, databasePid: postgresPid, stop: () => end(child) }
}
