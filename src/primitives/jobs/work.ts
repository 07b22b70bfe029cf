import { RungError } from '../../kernel/errors.ts'
import { type Duration, toMs } from '../../kernel/units.ts'
import type { Database } from '../data/contract.ts'
import { sqlState } from '../data/errors.ts'
import { expectationFailed, type Ride, ruleWrites, type WriteRule } from '../data/rides.ts'
import type { ForeignClaims } from './contract.ts'
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
  /** Reports progress from 0 to 1, with a note of at most 500 characters. `jobs.find` shows it within some seconds. */
  progress(share: number, note?: string): void
  /**
   * `data.write` whose commit also ends the job: its effect on the database happens exactly once, also when the process is
   * killed at that moment. Nothing after it is repeated.
   */
  complete<T>(fn: (tx: Tx) => PromiseLike<T> | T): Promise<T>
}

/** Where the handlers of a module write. */
export interface Home<Tx> {
  readonly database: Database
  write<T>(fn: (tx: Tx) => PromiseLike<T> | T): Promise<T>
  foreignClaimsIn(database: Database): ForeignClaims
}

/** The handler of a job: its writes are fenced, so that a run that was handed on commits nothing any more. */
export function jobHandler<Tx>(
  job: Job,
  fn: (input: never, run: JobRun<Tx>) => PromiseLike<unknown> | unknown,
  home: Home<Tx>,
): Handler {
  return {
    kind: 'job',
    ...timesOf(job.options),
    async handle(item, run) {
      const fenced = await fence(run, home)
      if (fenced.isDone) return
      await fn(item.payload as never, {
        id: item.id,
        attempt: item.failures + 1,
        get signal() {
          return run.scope.signal
        },
        progress(share, note) {
          run.progress = toProgress(share, note)
        },
        complete: (body) => fenced.complete(() => home.write(body)),
      })
    },
  }
}

/** The handler of an event: its transaction is also the one in which the delivery ends. */
export function deliveryHandler<Tx>(
  options: RetryOptions,
  fn: (item: Run['item'], tx: Tx) => PromiseLike<unknown> | unknown,
  home: Home<Tx>,
): Handler {
  return {
    kind: 'event',
    ...timesOf(options),
    async handle(item, run) {
      const fenced = await fence(run, home)
      if (!fenced.isDone) await fenced.complete(() => home.write(async (tx) => void (await fn(item, tx))))
    },
  }
}

interface Fence {
  /** An earlier claim has committed the item's effect, and its end did not reach the queue. */
  readonly isDone: boolean
  complete<T>(write: () => Promise<T>): Promise<T>
}

/** Fences all writes of a run. In the queue's own database the claim itself is checked, in others what they were told of it. */
async function fence(run: Run, { database: home, foreignClaimsIn }: Home<unknown>): Promise<Fence> {
  const { queue, database: source } = run
  const item = { ...run.item, source: source.name }
  const told = new Map<Database, Promise<'open' | 'done'>>()
  /** True while `complete` begins its write: of all writes of a run, this one ends the claim. */
  let isLast = false
  let completing = false
  let isComplete = false

  /** Tells another database of the claim before its first write there. */
  function tell(database: Database): Promise<'open' | 'done'> {
    const telling = told.get(database) ?? begin(database)
    told.set(database, telling)
    return telling
  }

  /** @throws JOB_LEASE_LOST */
  async function begin(database: Database): Promise<'open' | 'done'> {
    const known = await foreignClaimsIn(database).begin(item)
    // The item was handed on, or the database of the queue was restored and gives out old tokens again: then the next claims, which
    // count as no failure, reach the token that is known here.
    if (known === 'later') throw leaseLost(run)
    return known
  }

  function ruleIn(database: Database, done: boolean): WriteRule {
    return {
      ride(): Ride | undefined {
        if (run.settled || isComplete) return undefined // no other run can have it any more
        return {
          statement: database === source ? queue.fence(item, done) : foreignClaimsIn(database).fence(item, done),
          failed: (error) => (sqlState(error) === expectationFailed ? leaseLost(run, error) : error),
          committed() {
            if (!done) return
            isComplete = true
            if (database === source) run.settled = true // otherwise the worker ends the claim
          },
        }
      },
    }
  }

  ruleWrites(run.scope, {
    async begin({ database }) {
      const rule = ruleIn(database, isLast)
      isLast = false
      if (database !== source) await tell(database)
      return rule
    },
  })
  return {
    isDone: home !== source && (await tell(home)) === 'done',
    async complete(write) {
      if (isComplete || completing) throw new RungError('APP_INVALID', `${run.scope.id} was completed twice.`)
      completing = true
      try {
        isLast = true
        const writing = write() // begins at once, unless it joins an open write: then the worker ends the claim
        isLast = false
        return await writing
      } finally {
        isLast = false
        completing = false
      }
    },
  }
}

function leaseLost({ scope }: Run, cause?: unknown): RungError {
  return new RungError(
    'JOB_LEASE_LOST',
    `${scope.id} took longer than its lease and was handed on. Nothing of it was committed.`,
    { cause },
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
