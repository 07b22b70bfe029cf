import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { sleep } from '../src/kernel/clock.ts'
import { runLoadInThreads } from '../src/load.ts'
import { ledgerProject } from '../test/support/deploys.ts'
import { launchRung, openScratch } from '../test/support/process.ts'
import type { Bench } from './run.ts'
import { plot } from './support/plot.ts'
import { machineFacts, progress } from './support/report.ts'
import type { TourLoad } from './support/tour-load.ts'

const image = fileURLToPath(new URL('../docs/images/tour.svg', import.meta.url))
/** Arrivals per second: less than a third of what the machine carries, because the commands need it too. */
const rate = 40
const seconds = 80

/** What somebody does to the fleet, and when, in seconds. */
const steps = [
  { at: 5, does: 'kill web-1', command: ['kill', 'web-1', '--yes'] },
  { at: 15, does: 'kill the primary', command: ['kill', 'postgres', '--yes'] },
  { at: 28, does: 'scale to 4', command: ['scale', 'web=4'] },
  { at: 45, does: 'deploy', command: ['deploy', '--watch', '1s'] },
] as const

/** What clients notice while the fleet of `100k` is killed, scaled and deployed. */
const bench: Bench = {
  claim: 'a fleet at 100k loses a web process and its primary, grows and gets new code, while clients are served',
  async run({ json }) {
    const scratch = await openScratch()
    try {
      const project = await ledgerProject(path.join(scratch.dir, 'ledger'))
      const { url } = await scratch.launch({ up: '100k', app: project.app, args: ['--web', '3'] }).started
      await fetch(`${url}/entries`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({ id: 'first' }),
      })
      const load = (seconds: number) => {
        const input: TourLoad = { url, rate, seconds }
        return runLoadInThreads(new URL('./support/tour-load.ts', import.meta.url), input)
      }
      await load(10) // code is compiled
      const began = performance.now()
      const did = (async () => {
        const done = []
        for (const { at, does, command } of steps) {
          await sleep(Math.max(0, at * 1_000 - (performance.now() - began)))
          const fromS = (performance.now() - began) / 1_000
          if (command[0] === 'deploy') await project.write('2')
          const { exited, stderr } = launchRung({ command: [...command], dataDir: scratch.dataDir, cwd: scratch.dir })
          const { code } = await exited
          if (code !== 0) throw new Error(`${does}: ${stderr()}`)
          done.push({ does, fromS, toS: (performance.now() - began) / 1_000 })
          if (!json) progress(`${does}: from ${fromS.toFixed(1)} to ${done.at(-1)!.toS.toFixed(1)} s`)
        }
        return done
      })()
      const [{ routes, all }, done] = await Promise.all([load(seconds), did])

      const perSecond = (kind: string) => Array.from({ length: seconds }, (_, at) => routes.get(`${at} ${kind}`))
      const p95Of = (kind: string) => perSecond(kind).map((one) => Math.round(one?.latency.at(0.95) ?? 0))
      const failedIn = (kind: string) => perSecond(kind).map((one) => sumOf(one?.failures))
      const failed = { read: failedIn('read'), write: failedIn('write') }
      const marks = done.map(({ does, fromS, toS }) => ({ text: does, fromS, toS }))
      const blue = '#1a6fd4'
      const red = '#c2501a'
      await plot(
        image,
        [
          {
            title: '95th percentile',
            unit: 'ms',
            lines: [
              { name: 'reads', values: p95Of('read'), color: blue },
              { name: 'writes', values: p95Of('write'), color: red },
            ],
          },
          {
            title: 'Failed requests',
            unit: 'number',
            lines: [
              { name: 'reads', values: failed.read, color: blue },
              { name: 'writes', values: failed.write, color: red },
            ],
          },
        ],
        marks,
      )
      const total = (counts: readonly number[]) => counts.reduce((sum, count) => sum + count, 0)
      const result = {
        requests: all.latency.count,
        failedReads: total(failed.read),
        failedWrites: total(failed.write),
        failures: all.failures,
        p95Ms: Math.round(all.latency.at(0.95)),
      }
      if (!json) progress(JSON.stringify(result))
      return { claim: bench.claim, facts: machineFacts('18'), rate, seconds, steps: done, ...result }
    } finally {
      await scratch.end()
    }
  },
}
export default bench

function sumOf(counts: Readonly<Record<string, number>> = {}): number {
  return Object.values(counts).reduce((sum, count) => sum + count, 0)
}
