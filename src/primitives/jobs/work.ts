import { RungError } from '../../kernel/errors.ts'
import { type Duration, toMs } from '../../kernel/units.ts'
import { sqlState } from '../data/errors.ts'
import { expectationFailed, type Ride, ruleWrites } from '../data/rides.ts'
import type { Queue } from './contract.ts'
import type { Progress } from './items.ts'
import { defaults, type Job, queueOf, type RetryOptions } from './jobs.ts'
import type { Handler, Line, Run } from './worker.ts'

/** What the handler of a job gets besides its input. */
export interface JobRun<Tx> {
  readonly id: number
  /** 1 for the first try. */
  readonly attempt: number
  /** Aborts at the time limit, when the job is cancelled, when it was handed on, when the process stops. */
  readonly signal: AbortSignal
  /** How far it is, 0 … 1, and at most 500 characters about it; seen by `jobs.find` within some seconds. */
  progress(share: number, note?: string): void
  /**
   * `data.write` whose commit also ends the job: its effect on the database happens exactly once, also when the process is
   * killed at that moment. Nothing after it is repeated.
   */
  complete<T>(fn: (tx: Tx) => PromiseLike<T> | T): Promise<T>
}

type Write<Tx> = <T>(fn: (tx: Tx) => PromiseLike<T> | T) => Promise<T>

/** The handler of a job: its writes are fenced, so that a run that was handed on commits nothing any more. */
export function jobHandler<Tx>(
  job: Job,
  fn: (input: never, run: JobRun<Tx>) => PromiseLike<unknown> | unknown,
  queue: Queue,
  write: Write<Tx>,
): Handler {
  return {
    kind: 'job',
    ...timesOf(job.options),
    async handle(item, run) {
      const fenced = fence(queue, run)
      await fn(item.payload as never, {
        id: item.id,
        attempt: item.failures + 1,
        get signal() {
          return run.scope.signal
        },
        progress(share, note) {
          run.progress = toProgress(share, note)
        },
        complete: (body) => fenced.complete(() => write(body)),
      })
    },
  }
}

/** The handler of an event: its transaction is also the one in which the delivery ends. */
export function deliveryHandler<Tx>(
  options: RetryOptions,
  fn: (item: Run['item'], tx: Tx) => PromiseLike<unknown> | unknown,
  queue: Queue,
  write: Write<Tx>,
): Handler {
  return {
    kind: 'event',
    ...timesOf(options),
    async handle(item, run) {
      await fence(queue, run).complete(() => write(async (tx) => void (await fn(item, tx))))
    },
  }
}

function fence(queue: Queue, run: Run): { complete<T>(write: () => Promise<T>): Promise<T> } {
  let completing = false
  ruleWrites(run.scope, {
    ride(): Ride | undefined {
      if (run.settled) return undefined // nobody else can have it any more
      const done = completing
      return {
        statement: queue.fence(run.item, done),
        failed(error) {
          return sqlState(error) === expectationFailed ? leaseLost(run, error) : error
        },
        committed() {
          if (done) run.settled = true
        },
      }
    },
  })
  return {
    async complete(write) {
      if (run.settled || completing) throw new RungError('APP_INVALID', `${run.scope.id} was completed twice.`)
      completing = true
      try {
        return await write()
      } finally {
        completing = false
      }
    },
  }
}

function leaseLost({ scope }: Run, cause: unknown): RungError {
  return new RungError(
    'JOB_LEASE_LOST',
    `${scope.id} took longer than its lease and was handed on. Nothing of it was committed.`,
    {
      cause,
    },
  )
}

function toProgress(share: number, note: string | undefined): Progress {
  const known = Number.isFinite(share) ? Math.min(1, Math.max(0, share)) : 0
  return { share: known, ...(typeof note === 'string' && { note: clean(note) }) }
}

const noteLengthMax = 500

function clean(note: string): string {
  return note.slice(0, noteLengthMax).replaceAll('\0', '').toWellFormed()
}

function timesOf({
  timeout,
  backoff = {},
}: RetryOptions): Pick<Handler, 'timeoutMs' | 'backoffBaseMs' | 'backoffMaxMs'> {
  const ms = (value: Duration | undefined, otherwise: number) => (value === undefined ? otherwise : toMs(value))
  return {
    timeoutMs: ms(timeout, defaults.timeoutMs),
    backoffBaseMs: ms(backoff.base, defaults.backoffBaseMs),
    backoffMaxMs: ms(backoff.max, defaults.backoffMaxMs),
  }
}

/**
 * The queues of some jobs, with the limits that their definitions agree on.
 * @throws APP_INVALID when two jobs of one queue set a limit differently, or one job is handled twice
 */
export function jobLines(handled: readonly { job: Job; handler: Handler }[]): Line[] {
  const lines = new Map<string, Line & { handlers: Map<string, Handler>; options: string }>()
  for (const { job, handler } of handled) {
    const { concurrency = defaults.concurrency, fleetConcurrency: fleetMax, key, keyConcurrency = 1 } = job.options
    const perKeyMax = key ? keyConcurrency : undefined
    const options = JSON.stringify([concurrency, fleetMax, perKeyMax])
    const queue = queueOf(job)
    const line = lines.get(queue) ?? {
      queue,
      concurrency,
      ordered: false,
      perKeyMax,
      fleetMax,
      handlers: new Map(),
      options,
    }
    if (line.options !== options) {
      throw new RungError(
        'APP_INVALID',
        `The jobs of queue "${queue}" set different limits; "${job.name}" must have those of the others.`,
      )
    }
    if (line.handlers.has(job.name)) throw new RungError('APP_INVALID', `Job "${job.name}" is handled twice.`)
    line.handlers.set(job.name, handler)
    lines.set(queue, line)
  }
  return [...lines.values()].map(({ options: _, ...line }) => line)
}
