import { AsyncLocalStorage } from 'node:async_hooks'
import { after } from './clock.ts'
import { nowhere, type Position } from './position.ts'

/** Who acts: what limits, records and sessions are kept by. */
export interface Principal {
  /** Stable and unique in the app: an account's id. */
  readonly id: string
  /** Of the app's own plans; limits may differ by it. */
  readonly plan?: string | undefined
}

/**
 * A scope is one unit of work: a request, one run of a job, one delivery of an event. It travels by `AsyncLocalStorage`,
 * so that helpers need no extra argument, and holds what belongs to the unit of work as a whole.
 */
export class Scope {
  /** Unique, safe to print; a request's id when it came with one. */
  readonly id: string
  readonly kind: ScopeKind
  /** What runs: `GET /api/articles/:slug`, a job's name … */
  name: string
  /** W3C trace context as it arrived or was made here, `00-<trace>-<span>-<flags>`. */
  traceparent: string | undefined
  /** When the work must be done, ms on the monotonic clock; `Infinity` where nothing limits it. */
  deadlineAt = Number.POSITIVE_INFINITY
  /** How far this unit of work has seen the databases. Only ever moves forward. */
  position: Position = nowhere
  /** Something was committed in it. */
  wrote = false
  /** Commits that were sent and not yet answered. One whose answer is lost is counted for ever: nobody knows its outcome. */
  commitsInDoubt = 0
  /** All that was committed is recorded under the request's Idempotency-Key: sent once more, it is not done twice. */
  repeatable = false
  /** Fetches the position from a record. `recallPosition` calls it, once. */
  recall: (() => Promise<void>) | undefined
  /** The session may have a position that could not be fetched: only what was committed last is sure to cover it. */
  positionUnknown = false
  /** Whose work it is, once that has been found out. */
  principal: Principal | undefined
  /** Rules for the writes in it, as `data/rides.ts` has them. A field: each run of a job has one, and a map of them all is slow. */
  writeRule: unknown
  #cancelled: Error | undefined
  #onCancel: Set<(reason: Error) => void> | undefined
  #controller: AbortController | undefined

  constructor(kind: ScopeKind, id: string, name: string) {
    this.kind = kind
    this.id = id
    this.name = name
  }

  /** Set once the work has no reader any more: its deadline has passed, or its caller is gone. */
  get cancelled(): Error | undefined {
    return this.#cancelled
  }

  /** Fetches the position where it lies in a record. Called before the position is relied on; `undefined` where it is known. */
  recallPosition(): Promise<void> | undefined {
    const { recall } = this
    if (!recall) return undefined
    const { promise: once, resolve } = Promise.withResolvers<void>()
    this.recall = () => once // before `recall` runs: finding out who asks may read from the cache
    resolve(
      recall().finally(() => {
        this.recall = undefined
      }),
    )
    return once
  }

  /** For `fetch` and others that take a signal. Made on first use: most requests never need one. */
  get signal(): AbortSignal {
    if (!this.#controller) {
      this.#controller = new AbortController()
      if (this.#cancelled) this.#controller.abort(this.#cancelled)
    }
    return this.#controller.signal
  }

  /** Calls `fn` when the scope is cancelled; the returned function takes it back. */
  onCancel(fn: (reason: Error) => void): () => void {
    this.#onCancel ??= new Set()
    this.#onCancel.add(fn)
    return () => this.#onCancel?.delete(fn)
  }

  cancel(reason: Error): void {
    if (this.#cancelled) return
    this.#cancelled = reason
    for (const fn of this.#onCancel ?? []) fn(reason)
    this.#controller?.abort(reason)
  }
}

/** A commit is on its way in the scope. What it returns is called when the server has said what became of it, and never where it could not. */
export function inDoubt(scope: Scope | undefined): () => void {
  if (!scope) return () => {}
  let open = true
  scope.commitsInDoubt += 1
  return () => {
    if (open) scope.commitsInDoubt -= 1
    open = false
  }
}

export type ScopeKind = 'request' | 'job' | 'event' | 'task' | 'call'

const storage = new AsyncLocalStorage<Scope>()

/** The scope of the running code, or `undefined` outside any (a script, a timer). */
export function currentScope(): Scope | undefined {
  return storage.getStore()
}

export function runInScope<T>(scope: Scope, fn: () => T): T {
  return storage.run(scope, fn)
}

/** Waits for `fn` no longer than so many ms: then the scope is cancelled with the error that `late` gives, and this fails with it. */
export async function runInTime<T>(
  scope: Scope,
  limitMs: number,
  late: () => Error,
  fn: () => PromiseLike<T> | T,
): Promise<T> {
  const { promise: ended, reject } = Promise.withResolvers<never>()
  const forget = after(limitMs, () => {
    const error = late()
    scope.cancel(error)
    reject(error)
  })
  try {
    return await Promise.race([runInScope(scope, async () => fn()), ended])
  } finally {
    forget()
  }
}
