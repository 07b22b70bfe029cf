import { AsyncLocalStorage } from 'node:async_hooks'
import { after } from './clock.ts'
import { nowhere, type Position } from './position.ts'

/** The account that acts. Limits, records and sessions are kept by principal. */
export interface Principal {
  /** Stable and unique in the app: an account's id. */
  readonly id: string
  /** The app's plan for this principal, by which limits may differ. */
  readonly plan?: string | undefined
}

/**
 * One unit of work: a request, a run of a job, a delivery of an event. `AsyncLocalStorage` carries it, so that helpers need no extra
 * argument.
 */
export class Scope {
  /** Unique and safe to print. A request's own id, if it came with one. */
  readonly id: string
  readonly kind: ScopeKind
  /** The route (`GET /api/articles/:slug`), the job's name and so on. */
  name: string
  /** W3C trace context, `00-<trace>-<span>-<flags>`. */
  traceparent: string | undefined
  /** When the work must be done, in ms on the monotonic clock; `Infinity` without a limit. */
  deadlineAt = Number.POSITIVE_INFINITY
  /** How much of the databases this unit of work has seen. It only moves forward. */
  position: Position = nowhere
  /** Whether it has committed anything. */
  wrote = false
  /** Number of commits without an answer so far. A commit whose answer is lost stays counted, because its outcome is unknown. */
  commitsInDoubt = 0
  /** Whether all commits are recorded under the request's Idempotency-Key, so that a repetition does nothing twice. */
  repeatable = false
  /**
   * Fetches the position from a record of the principal, or while that is not known, of the credential. Resolves with true if there is one.
   * Call `recallPosition`, which calls this once.
   */
  recall: ((by: 'principal' | 'credential') => Promise<unknown>) | undefined
  /** Whether the session may have a position that could not be fetched. Only the primary is sure to cover it. */
  positionUnknown = false
  /** How old, in ms, what it reads may be if no server that covers its position has time; `undefined`: it is refused instead. */
  staleMsMax: number | undefined
  /** The principal of the scope, once it is known. */
  principal: Principal | undefined
  /** Rules for its writes (`data/rides.ts`). A field, because each run of a job has one, and a map for all scopes is slow. */
  writeRule: unknown
  #cancelled: Error | undefined
  #onCancel: Set<(reason: Error) => void> | undefined
  #controller: AbortController | undefined

  constructor(kind: ScopeKind, id: string, name: string) {
    this.kind = kind
    this.id = id
    this.name = name
  }

  /** The reason, once nobody waits for the work: its deadline has passed, or its caller has gone. */
  get cancelled(): Error | undefined {
    return this.#cancelled
  }

  /** Fetches the position from its record. Call it before you rely on the position. Returns `undefined` if the position is known. */
  recallPosition(): Promise<unknown> | undefined {
    const { recall } = this
    if (!recall) return undefined
    const { promise: once, resolve } = Promise.withResolvers<unknown>()
    // Set before `recall` runs, because identifying the principal may read from the cache.
    this.recall = (by) => (by === 'credential' ? recall(by) : once)
    resolve(
      recall('principal').finally(() => {
        this.recall = undefined
      }),
    )
    return once
  }

  /** Aborts when the scope is cancelled. Created on first use, because most requests never need it. */
  get signal(): AbortSignal {
    if (!this.#controller) {
      this.#controller = new AbortController()
      if (this.#cancelled) this.#controller.abort(this.#cancelled)
    }
    return this.#controller.signal
  }

  /** Calls `fn` when the scope is cancelled. The returned function ends this. */
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

/** Counts a commit as sent. Call the returned function when its outcome is known, and never if its answer was lost. */
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

/** Returns the scope of the running code, or `undefined` outside of any (a script, a timer). */
export function currentScope(): Scope | undefined {
  return storage.getStore()
}

export function runInScope<T>(scope: Scope, fn: () => T): T {
  return storage.run(scope, fn)
}

/** Runs `fn` in the scope for at most `limitMs`. After that it cancels the scope with the error of `late`, and rejects with it. */
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
