import path from 'node:path'
import { runLoad } from '../src/load.ts'
import { ledgerProject } from '../test/support/deploys.ts'
import { launchRung, openScratch } from '../test/support/process.ts'
import type { Bench } from './run.ts'
import { machineFacts, progress, spread, table } from './support/report.ts'

const deploysOf = 20
const loadShare = 0.7
const webs = 2
const visitors = 8
const calibrated = 3_000
const chunkSeconds = 5
const watch = '1s'

interface Deployed {
  build: string
  outcome: string
  reason: string | null
  tookMs: number
}

const read = {
  name: 'read',
  weight: 4,
  run: (visitor: Visitor) => visitor.request('GET', '/entries/first', { route: 'GET', expected: [200] }),
}
const write = {
  name: 'write',
  run: (visitor: Visitor) =>
    visitor.request('POST', '/entries', {
      route: 'POST',
      body: { id: `n${next()}`, body: 'x'.repeat(200) },
      expected: [201],
    }),
}
type Visitor = Parameters<Parameters<typeof runLoad>[0]['journeys'][number]['run']>[0]
let count = 0
/** For what must differ: ids, and the seeds of runs. */
function next(): number {
  count += 1
  return count
}

/** The ledger at 100k, with two web processes and two replicas: reads and writes go on while its code is replaced again and again. */
const bench: Bench = {
  claim: '20 deploys at 70 % load through HAProxy: no request fails (it fails otherwise)',
  async run({ json, rounds = 1 }) {
    const scratch = await openScratch()
    try {
      const project = await ledgerProject(path.join(scratch.dir, 'ledger'))
      const args = ['--web', String(webs)]
      const { url } = await scratch.launch({ up: '100k', app: project.app, args }).started
      await fetch(`${url}/entries`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({ id: 'first' }),
      })
      const journeys = [read, write]
      const load = (how: Pick<Parameters<typeof runLoad>[0], 'phases' | 'closed'>) =>
        runLoad({ url, journeys, lateMsMax: Number.POSITIVE_INFINITY, seed: next(), ...how })
      await load({ closed: { visitors, journeys: calibrated } }) // code is compiled
      const full = await load({ closed: { visitors, journeys: calibrated } })
      const capacity = full.journeys / full.seconds
      const rate = Math.floor(capacity * loadShare)

      let over = false
      const total = { requests: 0, failures: {} as Record<string, number>, p50: [] as number[], p99: [] as number[] }
      const underLoad = (async () => {
        while (!over) {
          const { all, journeys } = await load({ phases: [{ seconds: chunkSeconds, rate }] })
          total.requests += journeys
          for (const [kind, n] of Object.entries(all.failures)) total.failures[kind] = (total.failures[kind] ?? 0) + n
          total.p50.push(all.latency.at(0.5))
          total.p99.push(all.latency.at(0.99))
        }
      })()
      const deploys: Deployed[] = []
      try {
        for (let n = 1; n <= deploysOf * rounds; n += 1) {
          await project.write(`${n + 1}`)
          const command = ['deploy', '--watch', watch, '--json']
          const { exited, stdout, stderr } = launchRung({ command, dataDir: scratch.dataDir, cwd: scratch.dir })
          await exited
          const one = JSON.parse(stdout()) as Deployed & { error?: { message: string } }
          if (one.error) throw new Error(`${one.error.message} ${stderr()}`)
          deploys.push(one)
          if (!json) progress(`deploy ${n}: ${one.outcome} in ${Math.round(one.tookMs)} ms ${one.reason ?? ''}`)
        }
      } finally {
        over = true
        await underLoad
      }
      const failed = Object.values(total.failures).reduce((sum, n) => sum + n, 0)
      const done = deploys.filter(({ outcome }) => outcome === 'done').length
      const takeMs = spread(deploys.map(({ tookMs }) => tookMs))
      const latencyMs = { p50: spread(total.p50), p99: spread(total.p99) }
      if (!json) {
        const row = [done, total.requests, failed, rate].map(String)
        progress(table([['deploys', 'requests', 'failed', 'requests/s'], row]))
      }
      const facts = machineFacts('18')
      const result = {
        capacity: Math.round(capacity),
        rate,
        webs,
        watch,
        done,
        ...total,
        p50: undefined,
        p99: undefined,
      }
      if (failed > 0)
        throw new Error(`${failed} of ${total.requests} requests failed: ${JSON.stringify(total.failures)}`)
      if (done < deploys.length) throw new Error(`only ${done} of ${deploys.length} deploys were completed`)
      return { claim: bench.claim, facts, ...result, failed, takeMs, latencyMs }
    } finally {
      await scratch.end()
    }
  },
}
export default bench
