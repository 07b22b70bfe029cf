/** Runs a workload as a process of its own, with the fault that the environment names, or without one. Reports each history. */
import { checkHistory, counterExample, createRecorder, tell } from '../../src/history.ts'
import { machineTicks } from '../../src/kernel/clock.ts'
import { testPostgres } from '../support/postgres.ts'
import { type Workload, type WorkloadName, workloads } from './workload.ts'

/** What a process is to do. */
export interface Asked {
  workload: WorkloadName
  seeds: number
  /** It ends with the first history in which one of these checkers finds something. */
  until?: readonly string[]
  /** No further history begins after this time. Default: no limit. */
  withinMs?: number
}

export interface Report {
  seed: number
  operations: number
  /** Answers that were checked, by checker. */
  checked: Readonly<Record<string, number>>
  found: readonly Found[]
  /** Whether the file of the plant was loaded. */
  planted: string | undefined
}

/** The first anomaly of a checker. */
interface Found {
  checker: string
  count: number
  text: string
  /** The operations that prove it, in words. */
  told: readonly string[]
}

const { workload: name, seeds, until, withinMs = Number.POSITIVE_INFINITY }: Asked = JSON.parse(process.argv[2]!)
const began = machineTicks()
const { promises, options = {}, open }: Workload = (await workloads[name]()).default
const postgres = await testPostgres()
const workload = await open(postgres)
try {
  for (let seed = 1; seed <= seeds && machineTicks() - began < withinMs; seed += 1) {
    const recorder = createRecorder()
    await workload.run(seed, recorder)
    const operations = recorder.operations()
    const verdicts = checkHistory(operations, options).filter(({ checker }) => promises.includes(checker))
    const found = verdicts.flatMap(({ checker, count, anomalies: [anomaly] }): Found[] => {
      if (!anomaly) return []
      const told = tell(counterExample(operations, { checker, anomaly, options }), operations)
      return [{ checker, count, text: anomaly.text, told }]
    })
    const report: Report = {
      seed,
      operations: operations.length,
      checked: Object.fromEntries(verdicts.map(({ checker, checked }) => [checker, checked])),
      found,
      planted: process.env.RUNG_PLANTED,
    }
    process.send!(report)
    if (found.some(({ checker }) => until?.includes(checker))) break
  }
} finally {
  await workload.close()
  await postgres.stop()
}
process.disconnect()
