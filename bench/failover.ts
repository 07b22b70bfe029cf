import { losePrimaries } from '../test/support/failovers.ts'
import { openScratch } from '../test/support/process.ts'
import type { Bench } from './run.ts'
import { machineFacts, progress } from './support/report.ts'

const failovers = 100
/** ms at the 95th percentile, as a client sees it. */
const targets = { SIGKILL: 1_000, SIGSTOP: 5_000 }

/** Each third loss is a freeze, the others are deaths. The long form of `test/fleet/failover-fleet.test.ts`. */
const bench: Bench = {
  claim: 'a primary that dies or freezes under load is replaced, and nothing acknowledged is lost (it fails otherwise)',
  async run({ json, rounds = failovers }) {
    const scratch = await openScratch()
    try {
      const facts = await scratch.launch({ up: '100k', args: ['--web', '2'] }).started
      const signals = Array.from({ length: rounds }, (_, n): keyof typeof targets =>
        n % 3 === 2 ? 'SIGSTOP' : 'SIGKILL',
      )
      const { times, acknowledged, lost, others } = await losePrimaries({
        ...{ facts, dataDir: scratch.dataDir, replicas: 2, signals },
        ...(!json && { tell: progress }),
      })
      const measured = (Object.keys(targets) as (keyof typeof targets)[]).map((signal) => {
        const ms = times.filter((one) => one.signal === signal).map((one) => one.ms)
        return { signal, count: ms.length, p50: share(ms, 0.5), p95: share(ms, 0.95), target: targets[signal] }
      })
      if (!json) {
        for (const { signal, count, p50, p95, target } of measured)
          progress(`${signal}: ${count} times, written again after ${p50} ms, p95 ${p95} ms (target ${target})`)
        progress(
          `${acknowledged.length} acknowledged, ${lost.length} lost; other answers: ${[...others].join('; ') || 'none'}`,
        )
      }
      if (lost.length > 0) throw new Error(`${lost.length} acknowledged writes are lost`)
      const answers = Object.fromEntries(others)
      return {
        claim: bench.claim,
        facts: machineFacts('18'),
        measured,
        acknowledged: acknowledged.length,
        lost: 0,
        answers,
      }
    } finally {
      await scratch.end()
    }
  },
}
export default bench

function share(values: readonly number[], q: number): number | undefined {
  const sorted = values.toSorted((a, b) => a - b)
  return sorted[Math.min(sorted.length - 1, Math.ceil(q * sorted.length) - 1)]
}
