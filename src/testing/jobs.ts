import { RungError } from '../kernel/errors.ts'
import { type RunDone, runDone } from '../primitives/jobs/channels.ts'
import type { Line, Worker } from '../primitives/jobs/worker.ts'
import type { Primitives } from '../runtime/primitives.ts'
import type { AppWork } from '../runtime/work.ts'
import { prepareWork } from '../runtime/work.ts'

export interface DrainOptions {
  /** Failed runs are returned and not thrown. Default false. */
  allowFailures?: boolean
  /** More runs than this count as work without end. Default 1,000. */
  runsMax?: number
}

/** One run of a job, or one delivery of an event. */
export interface TestRun {
  readonly id: number
  readonly name: string
  readonly input: unknown
  /** `retry`: it failed, and is due again later. `dead`: it failed for good. */
  readonly outcome: 'done' | 'retry' | 'dead' | 'cancelled'
  readonly error: unknown
}

/** A job, or a delivery of an event, that has not ended. */
export interface PendingJob {
  readonly id: number
  readonly name: string
  /** `delayed`: it is due later. */
  readonly state: 'waiting' | 'delayed' | 'running' | 'dead'
  readonly input: unknown
  readonly dueAt: Date
  /** Failed tries. */
  readonly failures: number
  /** Of the last try. */
  readonly error: string | undefined
}

/** The jobs and events of a test app. They run when the test says so. */
export interface TestJobs {
  /**
   * Runs what is due, and what that enqueues and publishes, one after the other. What is due later waits; see `clock.advance`.
   * @returns the runs, in their order
   * @throws TEST_JOB_FAILED when all has run, with the error of the first run that failed as its cause; TEST_WORK_ENDLESS
   */
  drain(options?: DrainOptions): Promise<TestRun[]>
  /** Returns what has not ended, the oldest first; of each state the newest 1,000. */
  list(): Promise<PendingJob[]>
}

export interface OwnTestJobs extends TestJobs {
  lookAtCrons(): Promise<void>
}

const listMax = 1_000

/** One item at a time, so that a test sees the same order each time. */
export function testJobs(work: AppWork, primitives: Primitives, own: readonly Line[] = []): OwnTestJobs {
  const { stores, data } = primitives
  const { lines, workersOf, lookAtCrons } = prepareWork(work, primitives, own)
  /** By queue, one for each database. */
  const workers = new Map(lines.map((line) => [line.queue, workersOf([{ ...line, concurrency: 1 }])] as const))

  async function due(): Promise<Worker[]> {
    const found = stores.all.map(async ({ queue }, index) => {
      const counts = await queue.count()
      return counts.flatMap(({ queue: name, waiting }) => (waiting > 0 ? (workers.get(name)?.[index] ?? []) : []))
    })
    return (await Promise.all(found)).flat()
  }

  return {
    lookAtCrons,
    async drain({ allowFailures = false, runsMax = 1_000 } = {}) {
      const runs: (TestRun & { of: string })[] = []
      function listen(message: unknown): void {
        const { database, item, outcome, error } = message as RunDone
        if (!data.databases.includes(database)) return
        const { id, name, payload: input, failures, attemptsMax } = item
        const known = outcome === 'release' || outcome === 'lost' ? 'retry' : outcome
        runs.push({ id, name, input, outcome: known, error, of: `${failures + 1} of ${attemptsMax}` })
      }
      runDone.subscribe(listen)
      try {
        for (let left = runsMax; ; ) {
          let ran = 0
          for (const worker of await due()) {
            const count = await worker.runDue(left)
            ran += count
            left -= count
            if (left <= 0) throw endless(runsMax, runs)
          }
          if (ran === 0) break
        }
      } finally {
        runDone.unsubscribe(listen)
      }
      const failed = runs.filter(({ error }) => error !== undefined)
      if (failed.length > 0 && !allowFailures) {
        const [{ name, id, of, error }] = failed as [(typeof failed)[0]]
        const others = failed.length === 1 ? '' : ` ${failed.length - 1} more failed.`
        throw new RungError(
          'TEST_JOB_FAILED',
          `${name}#${id} failed in try ${of}: ${String(error).replace(/\.?$/, '.')}${others} Correct it, or call drain({ allowFailures: true }).`,
          { cause: error },
        )
      }
      return runs.map(({ of: _, ...run }) => run)
    },
    async list() {
      const listed = await Promise.all(
        stores.all.flatMap(({ queue }) =>
          (['waiting', 'delayed', 'running', 'dead'] as const).map((state) => queue.list({ state, limit: listMax })),
        ),
      )
      return listed
        .flat()
        .sort((a, b) => a.id - b.id)
        .map(({ id, name, state, payload: input, run_at: dueAt, failures, error }) => ({
          id,
          name,
          state: state as PendingJob['state'],
          input,
          dueAt: dueAt!,
          failures,
          error: error ?? undefined,
        }))
    },
  }
}

function endless(max: number, runs: readonly TestRun[]): RungError {
  const names = [...new Set(runs.slice(-100).map(({ name }) => name))].join(', ')
  return new RungError(
    'TEST_WORK_ENDLESS',
    `After ${max} runs there is still work; the last were of ${names}. Find out what enqueues it, or raise runsMax.`,
  )
}
