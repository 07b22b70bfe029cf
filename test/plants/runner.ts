import { fork } from 'node:child_process'
import path from 'node:path'
import { machineTicks } from '../../src/kernel/clock.ts'
import type { TestPostgres } from '../support/postgres.ts'
import type { Plant } from './plant.ts'
import type { Asked, Report } from './run.ts'
import type { WorkloadName } from './workload.ts'

export interface Ran {
  reports: readonly Report[]
  /** From the start of the process to the last report. */
  ms: number
  /** A checker that was asked for has found something in the last history. */
  isCaught: boolean
}

/**
 * Runs the workload of a plant with its fault, until it is caught.
 * @param most no further history begins after that
 */
export async function runPlant(
  { name, workload, caughtBy }: Plant,
  postgres: TestPostgres,
  most: Pick<Asked, 'seeds' | 'withinMs'>,
): Promise<Ran> {
  const ran = await run({ workload, until: caughtBy, ...most }, postgres, name)
  const last = ran.reports.at(-1)
  if (last && last.planted !== name)
    throw new Error(`The plant "${name}" is in a file that the workload "${workload}" never loads.`)
  return ran
}

/** Runs a workload on the sound build. */
export function runSound(workload: WorkloadName, seeds: number, postgres: TestPostgres): Promise<Ran> {
  return run({ workload, seeds }, postgres)
}

async function run(asked: Asked, { admin }: TestPostgres, plant?: string): Promise<Ran> {
  const began = machineTicks()
  const reports: Report[] = []
  const child = fork(path.join(import.meta.dirname, 'run.ts'), [JSON.stringify(asked)], {
    execArgv: ['--conditions=rung-source'],
    // Its own processes get the fault too.
    env: {
      ...process.env,
      RUNG_TEST_POSTGRES: admin.host,
      ...(plant && { RUNG_PLANT: plant, NODE_OPTIONS: `--import=${hook}` }),
    },
    stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
  })
  let [lastAt, words] = [began, '']
  child.on('message', (report: Report) => {
    reports.push(report)
    lastAt = machineTicks()
  })
  child.stderr!.on('data', (chunk) => {
    words = `${words}${chunk}`.slice(-4_000)
  })
  const code = await new Promise((resolve) => child.once('close', resolve))
  const isCaught = reports.at(-1)?.found.some(({ checker }) => asked.until?.includes(checker)) ?? false
  // With a fault in it, a process may well fail after that.
  if (code !== 0 && !isCaught)
    throw new Error(`${asked.workload} ended with ${code} after ${reports.length} histories: ${words}`)
  return { reports, ms: lastAt - began, isCaught }
}

const hook = path.join(import.meta.dirname, 'hook.ts')
