import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import type { Bench } from './run.ts'
import { compare } from './support/compare.ts'
import { sendRequests } from './support/load.ts'
import { type Contender, end, firstDocument, seed, startLikeApp } from './support/processes.ts'
import { inWords, machineFacts, rounded, table } from './support/report.ts'
import { countOf, requestsOf, sceneOf } from './support/scene.ts'

const target = 1.15

/** What metrics, the request log, and the watch for slow and repeated statements cost a request. */
const bench: Bench = {
  claim: 'observability costs a request at most 15 % more CPU',
  async run({ data, rounds = 9, json }) {
    const dir = data ?? (await mkdtemp(path.join(tmpdir(), 'rung-bench-')))
    const stops: (() => Promise<void>)[] = []
    try {
      const sides = []
      let postgres = ''
      for (const observed of [false, true]) {
        const place = path.resolve(dir, observed ? 'conduit' : 'floor')
        await seed(place, 10_000)
        const scene = await sceneOf(place)
        postgres = scene.postgres
        const contender = await startObserved(place, observed)
        stops.push(contender.stop)
        sides.push({ contender, requests: requestsOf(scene, []).list })
      }
      for (const { contender, requests } of sides) {
        await sendRequests({ url: contender.url, requests, count: 5 * countOf.list, connections: 16 })
      }
      const { first, second, ratio } = await compare('list', [sides[0]!, sides[1]!], rounds, countOf.list)
      if (!json) {
        const row = ['list', first.median.toFixed(3), second.median.toFixed(3), inWords(ratio), target.toFixed(2)]
        process.stdout.write('\nCPU of the app and its Postgres, ms a request\n')
        process.stdout.write(`${table([['route', 'off', 'on', 'ratio', 'target'], row])}\n`)
      }
      return {
        claim: bench.claim,
        facts: machineFacts(postgres),
        target,
        offMs: rounded(first),
        onMs: rounded(second),
        ratio: rounded(ratio),
      }
    } finally {
      for (const stop of stops.reverse()) await stop()
      if (data === undefined) await rm(dir, { recursive: true, force: true })
    }
  },
}
export default bench

async function startObserved(dataDir: string, observed: boolean): Promise<Contender> {
  const args = ['bench/support/serve.ts', observed ? 'observed' : 'bare']
  const child = startLikeApp(args, { RUNG_DATA: dataDir, PORT: '0' })
  const { url, postgresPid } = await firstDocument<{ url: string; postgresPid: number }>(child)
  const name = observed ? 'on' : 'off'
  return { name, url, pid: child.pid!, databasePid: postgresPid, stop: () => end(child) }
}
