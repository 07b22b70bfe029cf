import { after, atMost, every, sleep, systemClock } from '../../kernel/clock.ts'
import { causesOf, errorOf, isRungError, messageOf, partOf, RungError } from '../../kernel/errors.ts'
import { furthest, type Position, positionFromJson } from '../../kernel/position.ts'
import { backoffMs, systemRandom } from '../../kernel/random.ts'
import { runInScope, Scope } from '../../kernel/scope.ts'
import type { Database } from '../data/contract.ts'
import {
  type Moment,
  moment,
  type RunBegin,
  type RunDone,
  runBegin,
  runDone,
  type Trouble,
  tellTrouble,
} from './channels.ts'
import type { Queue } from './contract.ts'
import { type Ask, type Item, isGoverned, type Outcome, type Progress } from './items.ts'
import { type Wake, waker } from './wake.ts'

/** How the items of one queue are worked off in this process. */
export interface Line {
  queue: string
  concurrency: number
  ordered: boolean
  perKeyMax?: number | undefined
  fleetMax?: number | undefined
  /** By the items' names. */
  handlers: ReadonlyMap<string, Handler>
}

export interface Handler {
  kind: 'job' | 'event'
  timeoutMs: number
  backoffBaseMs: number
  backoffMaxMs: number
  handle(item: Item, run: Run): Promise<void>
}

/** One run of one item. */
export class Run {
  readonly item: Item
  readonly scope: Scope
  /** From which it was claimed, and where that lies. */
  readonly queue: Queue
  readonly database: Database
  progress: Progress | undefined
  /** A transaction of the handler has ended the claim. */
  settled = false
  /** What became of it is known, and on its way to the queue. */
  ended = false

  constructor(item: Item, scope: Scope, { queue, database }: Pick<WorkerOptions, 'queue' | 'database'>) {
    this.item = item
    this.scope = scope
    this.queue = queue
    this.database = database
  }
}

export interface WorkerOptions {
  queue: Queue
  lines: readonly Line[]
  /** Tells nodes apart in lists and logs. */
  name: string
  /** Where the queue lies. */
  database: Database
  /** A claim is held this long, and again each time it is extended, ms. */
  leaseMs?: number
  /** Looks for work at least this often while idle, ms. */
  pollMsMax?: number
}

/** A crash is noticed within the lease and the next reaping, below 10 s. */
const leaseMsDefault = 6_000
const pollMsMin = 25
const pollMsMaxDefault = 1_000
/** So much work is claimed ahead, as far as one can tell from the runs before. */
const aheadMs = 100
const aheadMax = 2_000
/** Fewer are settled only after a moment, in which others may end: a statement for each would cost more than its work. */
const settleMin = 200
const settleAfterMs = 3
const settleRetryMs = { base: 50, max: 2_000 }

/**
 * Works off queues: claims in batches, runs within the limits, extends what takes long, settles in batches. Any number of
 * them may work on one queue, in one process or many.
 */
export class Worker {
  readonly #options: Required<WorkerOptions>
  readonly #lines: LineState[]
  readonly #byQueue: ReadonlyMap<string, LineState>
  /** Everything this worker holds, begun or not. */
  readonly #held = new Map<number, Run>()
  readonly #wake: Wake = waker()
  /** The lines that may have items now. The others are looked at with each poll. */
  readonly #wanted = new Set<LineState>()
  /** Whether `wake` was called since the last claim: what was pushed may have a delay. */
  #isCalled = false
  /** On the monotonic clock, ms. */
  #pollAt = Number.NEGATIVE_INFINITY
  #pollMs = pollMsMin
  readonly #idle = new Set<() => void>()
  readonly #timers: (() => void)[] = []
  /** Whether items may wait for the end of a run, such as the next one of its key. */
  readonly #hurried: boolean
  #claimedAt: { place: string; position: Position } | undefined
  #outcomes: Outcome[] = []
  #settling: Promise<void> | undefined
  #loop: Promise<void> | undefined
  #stopping = false
  #stopped: Promise<void> | undefined

  constructor(options: WorkerOptions) {
    this.#options = { leaseMs: leaseMsDefault, pollMsMax: pollMsMaxDefault, ...options }
    this.#hurried = options.lines.some(isGoverned)
    this.#lines = options.lines.map((line) => ({ line, waiting: [], running: 0, runMs: undefined }))
    this.#byQueue = new Map(this.#lines.map((state) => [state.line.queue, state]))
  }

  /** Twice is the same as once. */
  start(): void {
    if (this.#loop || this.#stopping) return
    this.#timers.push(every(this.#options.leaseMs / 3, () => void this.#extend()))
    this.#loop = this.#work()
  }

  /** Looks for work in these queues, or in all. Returns whether this worker can take some at once. */
  wake(queues?: ReadonlySet<string>): boolean {
    if (this.#stopping || !this.#loop) return false
    const meant = this.#lines.filter(({ line }) => !queues || queues.has(line.queue))
    if (meant.length === 0) return false
    for (const state of meant) this.#wanted.add(state)
    this.#isCalled = true
    this.#wake.now()
    return meant.every(({ line, running, waiting }) => running + waiting.length < line.concurrency)
  }

  /**
   * Runs what is due, and what becomes due meanwhile, until nothing is, or until `max` runs have begun. For tests, in place of
   * `start`.
   * @returns the number of runs
   */
  async runDue(max: number): Promise<number> {
    const endExtending = every(this.#options.leaseMs / 3, () => void this.#extend())
    try {
      for (let runs = 0; ; ) {
        if (runs >= max) return runs
        const claimed = await this.#options.queue.claim(
          this.#lines.flatMap(askOf),
          this.#options.name,
          this.#options.leaseMs,
        )
        if (claimed.length === 0) return runs
        for (const item of claimed) this.#take(item)
        runs += claimed.length
        await this.#allEnded()
      }
    } finally {
      endExtending()
    }
  }

  /**
   * Takes nothing new, hands back what has not begun, and lets what runs end within `graceMs`; what still runs then is cancelled
   * and handed back too.
   */
  stop(graceMs: number): Promise<void> {
    this.#stopped ??= this.#stop(graceMs)
    return this.#stopped
  }

  async #stop(graceMs: number): Promise<void> {
    this.#stopping = true
    this.#wake.now()
    await this.#loop
    for (const { waiting } of this.#lines) {
      for (const item of waiting.splice(0)) this.#done({ ...held(item), kind: 'release', delayMs: 0 })
    }
    await atMost(graceMs, this.#allEnded())
    for (const { scope } of this.#held.values()) {
      scope.cancel(new RungError('JOB_HANDED_BACK', 'The process stops; the job runs again elsewhere.'))
    }
    await atMost(1_000, this.#allEnded())
    for (const { item } of [...this.#held.values()]) this.#done({ ...held(item), kind: 'release', delayMs: 0 })
    for (const end of this.#timers) end()
    // The database may be gone for good: then the leases end by themselves.
    if (this.#settling) await atMost(5_000, this.#settling)
  }

  #allEnded(): Promise<void> {
    if (this.#held.size === 0) return Promise.resolve()
    return new Promise((resolve) => this.#idle.add(resolve))
  }

  async #work(): Promise<void> {
    while (!this.#stopping) {
      const now = systemClock.ticks()
      const isPoll = now >= this.#pollAt
      const looked = this.#lines.filter((state) => (isPoll || this.#wanted.has(state)) && !isFull(state))
      const asks = looked.flatMap(askOf)
      if (isPoll) this.#pollAt = now + this.#pollMs
      if (asks.length === 0) {
        await this.#wake.wait(this.#pollAt - now)
        continue
      }
      // What is wanted from here on may have come too late for this claim.
      for (const state of looked) this.#wanted.delete(state)
      const isCalled = this.#isCalled
      this.#isCalled = false
      try {
        const claimed = await this.#options.queue.claim(asks, this.#options.name, this.#options.leaseMs)
        for (const item of claimed) this.#take(item)
        const counts = Map.groupBy(claimed, ({ queue }) => queue)
        for (const { queue, n } of asks) {
          if ((counts.get(queue)?.length ?? 0) >= n) this.#wanted.add(this.#byQueue.get(queue)!)
        }
        if (isPoll ? claimed.length > 0 : isCalled && claimed.length === 0) this.#pollSoon()
        else if (isPoll) this.#pollMs = Math.min(this.#pollMs * 2, this.#options.pollMsMax)
      } catch (error) {
        this.#tell({ event: 'claim-failed', error })
        this.#pollAt = systemClock.ticks() + this.#options.pollMsMax
      }
    }
  }

  /** Something may soon be due of which no call will tell: a further try, an item with a short delay. */
  #pollSoon(): void {
    this.#pollMs = pollMsMin
    this.#pollAt = Math.min(this.#pollAt, systemClock.ticks() + pollMsMin)
  }

  #take(item: Item): void {
    const state = this.#byQueue.get(item.queue)!
    announce('claimed', item)
    const scope = new Scope(state.line.handlers.get(item.name)?.kind ?? 'job', `${item.name}#${item.id}`, item.name)
    scope.traceparent = item.context?.traceparent
    scope.position = this.#positionOf(item)
    this.#held.set(item.id, new Run(item, scope, this.#options))
    state.waiting.push(item)
    this.#begin(state) // not while stopping: then it is handed back
  }

  /** What the producer had seen, and its own commit. Most items of one claim have nothing else, and share it. */
  #positionOf({ context, place }: Item): Position {
    const { name } = this.#options.database
    if (this.#claimedAt?.place !== place) this.#claimedAt = { place, position: positionFromJson({ [name]: place }) }
    const { position } = this.#claimedAt
    return context?.position ? furthest(position, positionFromJson(context.position)) : position
  }

  #begin(state: LineState): void {
    while (state.running < state.line.concurrency && state.waiting.length > 0 && !this.#stopping) {
      const run = this.#held.get(state.waiting.shift()!.id)
      if (!run) continue // lost before it began
      state.running += 1
      void this.#run(state, run)
    }
  }

  async #run(state: LineState, run: Run): Promise<void> {
    const { item, scope } = run
    const handler = state.line.handlers.get(item.name)
    const startedAt = systemClock.ticks()
    announce('before-run', item)
    if (runBegin.hasSubscribers) {
      const begin: RunBegin = { database: this.#options.database, item, scope }
      runBegin.publish(begin)
    }
    let outcome: Outcome
    let failure: unknown
    if (!handler) {
      // Code that is newer or older than this has pushed it, and will take it.
      outcome = { ...held(item), kind: 'release', delayMs: 2_000 }
    } else {
      scope.deadlineAt = startedAt + handler.timeoutMs
      const forget = after(handler.timeoutMs, () => scope.cancel(timedOut(item, handler)))
      try {
        await runInScope(scope, () => untilCancelled(handler.handle(item, run), scope))
        outcome = { ...held(item), kind: 'done', progress: run.progress }
      } catch (error) {
        failure = errorOf(error)
        outcome = outcomeOf(item, handler, scope, error)
      } finally {
        forget()
      }
    }
    announce('after-run', item)
    state.running -= 1
    const durationMs = systemClock.ticks() - startedAt
    state.runMs = state.runMs === undefined ? durationMs : state.runMs * 0.9 + durationMs * 0.1
    this.#report(run, handler?.kind ?? 'job', outcome, durationMs, failure)
    if (run.settled) {
      this.#forget(item.id)
      if (isGoverned(state.line)) this.#wanted.add(state)
    } else if (this.#held.get(item.id) === run) this.#done(outcome)
    this.#begin(state)
    if (!isFull(state)) this.#wake.now()
  }

  #report(run: Run, kind: 'job' | 'event', outcome: Outcome, durationMs: number, error: unknown): void {
    if (!runDone.hasSubscribers) return
    const { item, scope, settled } = run
    const lost = !settled && !this.#held.has(item.id)
    const { database } = this.#options
    const done: RunDone = {
      database,
      item,
      scope,
      kind,
      outcome: settled ? 'done' : lost ? 'lost' : outcome.kind,
      durationMs,
      error,
    }
    runDone.publish(done)
  }

  #tell(trouble: Omit<Trouble, 'database'>): void {
    tellTrouble({ database: this.#options.database, ...trouble })
  }

  #forget(id: number): void {
    this.#held.delete(id)
    if (this.#held.size > 0) return
    for (const resolve of this.#idle) resolve()
    this.#idle.clear()
  }

  /** Settled soon, together with whatever else ends by then. */
  #done(outcome: Outcome): void {
    const run = this.#held.get(outcome.id)
    if (!run || run.ended) return
    run.ended = true
    this.#outcomes.push(outcome)
    this.#settling ??= this.#settle()
  }

  async #settle(): Promise<void> {
    for (let failures = 0; this.#outcomes.length > 0; ) {
      await (this.#hurried || this.#outcomes.length >= settleMin ? new Promise(setImmediate) : sleep(settleAfterMs))
      const batch = this.#outcomes.splice(0, aheadMax)
      try {
        for (const { id } of batch) announce('before-settle', { id })
        const settled = await this.#options.queue.settle(batch)
        failures = 0
        for (const { id, kind } of batch) {
          announce('after-settle', { id })
          const state = this.#byQueue.get(this.#held.get(id)?.item.queue ?? '')
          // The next of a key, or of a full queue, may go now.
          if (state && isGoverned(state.line)) this.#wanted.add(state)
          if (kind !== 'done') this.#pollSoon()
          this.#forget(id)
        }
        if (this.#hurried) this.#wake.now()
        if (settled.size < batch.length) this.#tell({ event: 'lost', count: batch.length - settled.size })
      } catch (error) {
        this.#tell({ event: 'settle-failed', error })
        this.#outcomes.unshift(...batch)
        await sleep(backoffMs(failures, settleRetryMs.base, settleRetryMs.max))
        failures += 1
      }
    }
    this.#settling = undefined
  }

  async #extend(): Promise<void> {
    const asked = [...this.#held.values()]
    if (asked.length === 0) return
    try {
      const kept = await this.#options.queue.extend(
        asked.map(({ item, progress }) => ({ ...held(item), progress })),
        this.#options.leaseMs,
      )
      const byId = new Map(kept.map(({ id, cancelled }) => [id, cancelled]))
      for (const run of asked) {
        const cancelled = byId.get(run.item.id)
        if (cancelled === true) run.scope.cancel(new RungError('JOB_CANCELLED', `${run.scope.id} was cancelled.`))
        if (cancelled !== undefined || run.ended || this.#held.get(run.item.id) !== run) continue
        // Somebody else has it: nothing that this run still does may count.
        this.#forget(run.item.id)
        run.scope.cancel(
          new RungError('JOB_LEASE_LOST', `${run.scope.id} took longer than its lease and was handed on.`),
        )
      }
    } catch (error) {
      this.#tell({ event: 'extend-failed', error })
    }
  }
}

interface LineState {
  line: Line
  /** Claimed, not begun. */
  waiting: Item[]
  running: number
  /** How long a run takes, ms; a moving mean. */
  runMs: number | undefined
}

/** Rules between items are kept by those who claim: of such a queue nothing is claimed that cannot run at once. */
function aheadOf({ line, runMs }: LineState): number {
  if (isGoverned(line) || runMs === undefined) return 0
  return Math.min(aheadMax, Math.floor((aheadMs * line.concurrency) / Math.max(runMs, 0.01)))
}

function askOf(state: LineState): Ask[] {
  const { queue, concurrency, ordered, perKeyMax, fleetMax } = state.line
  const n = concurrency + aheadOf(state) - state.running - state.waiting.length
  return n > 0 ? [{ queue, n, ordered, perKeyMax, fleetMax }] : []
}

function isFull(state: LineState): boolean {
  const { line, running, waiting } = state
  return running >= line.concurrency && waiting.length >= aheadOf(state) / 2
}

function held({ id, token }: Item): { id: number; token: number } {
  return { id, token }
}

function announce(at: Moment, item: { id: number }): void {
  if (moment.hasSubscribers) moment.publish({ at, item })
}

/** A handler that does not listen to its signal is left alone: its writes fail, and its place is free again. */
function untilCancelled(work: Promise<void>, scope: Scope): Promise<void> {
  return new Promise((resolve, reject) => {
    scope.onCancel(reject)
    work.then(resolve, reject)
  })
}

function timedOut({ name, id }: Item, { timeoutMs }: Handler): RungError {
  return new RungError(
    'JOB_TIMEOUT',
    `${name}#${id} took longer than ${timeoutMs / 1000} s. Raise its timeout, or split it.`,
  )
}

/** What becomes of a run that threw. Pure but for the jitter. */
function outcomeOf(item: Item, handler: Handler, { cancelled }: Scope, thrown: unknown): Outcome {
  const code = cancelled instanceof RungError ? cancelled.code : undefined
  if (code === 'JOB_HANDED_BACK') return { ...held(item), kind: 'release', delayMs: 0 }
  if (code === 'JOB_CANCELLED') return { ...held(item), kind: 'cancelled' }
  const error = textOf(cancelled ?? thrown)
  const putOffMs = cancelled ? undefined : putOffOf(thrown)
  if (putOffMs !== undefined) return { ...held(item), kind: 'release', delayMs: putOffMs, error }
  if (item.failures + 1 >= item.attemptsMax || isFinal(thrown)) return { ...held(item), kind: 'dead', error }
  return {
    ...held(item),
    kind: 'retry',
    delayMs: backoffMs(item.failures, handler.backoffBaseMs, handler.backoffMaxMs),
    error,
  }
}

const errorLengthMax = 2_000

function textOf(error: unknown): string {
  const code = partOf(error, 'code')
  const text = `${typeof code === 'string' ? `${code}: ` : ''}${messageOf(error)}`
  return text.replaceAll('\0', '\ufffd').slice(0, errorLengthMax).toWellFormed()
}

const putsOff = ['OUTGOING_OPEN', 'OUTGOING_FULL', 'JOB_LEASE_LOST'] as const

/**
 * Returns how long a run waits that was not made, and so is no failed try, ms: its service is left alone or busy, or another database
 * knows of a later claim. With jitter, so that not all of them come back at once.
 */
function putOffOf(thrown: unknown): number | undefined {
  for (const error of causesOf(thrown)) {
    if (!putsOff.some((code) => isRungError(error, code))) continue
    const { retryAfterS } = (error as RungError).facts
    return Math.max(1, Number(retryAfterS ?? 1)) * 1_000 * (1 + systemRandom())
  }
  return undefined
}

const final = new WeakSet<object>()

/** An error after which another try is of no use: the job is dead at once. */
export function noRetry(error: unknown): unknown {
  const marked = typeof error === 'object' && error !== null ? error : errorOf(error)
  final.add(marked)
  return marked
}

function isFinal(error: unknown): boolean {
  return typeof error === 'object' && error !== null && final.has(error)
}
