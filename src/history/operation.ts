/** What a client did, with the times of its clock. All clients of one history use the same clock. */
export interface Operation {
  /** Unique in the history. */
  id: number
  kind: Kind
  /** Who did it. A session is promised that it sees what it did and saw before. */
  session: string
  /** What was read or written: a row, a collection, an Idempotency-Key, whose messages keep their order, whom a limit counts, a lease. */
  key: string
  /** Where it was answered. Of a write with a `token`, the primary that took it. */
  node?: string
  /**
   * What was written, known when it begins; or what was read, where `null` means that the key has no value yet. Each value is written to a
   * key by one operation only: otherwise nobody could tell what a read has seen. An operation that is repeated after an unknown outcome is
   * still one operation.
   */
  value?: Value | null
  /** A number that the store gives to this value, and that grows with each write of the key: a counter, a row's version. */
  version?: number
  /** Of a write that happens only if nobody else wrote meanwhile: the value that it replaces, `null` for none. */
  basedOn?: Value | null
  /** Of `list`, all elements of the collection; of `effects`, one Idempotency-Key for each effect; of `drain`, one message for each effect. */
  values?: readonly Value[]
  /** Of `change`, what is added to which account; of `levels`, what the accounts hold. */
  amounts?: Readonly<Record<string, number>>
  /**
   * The answer must show everything that was acknowledged to anybody before the question: a read of the primary. Other reads may be late,
   * within what their session is promised.
   */
  fresh?: boolean
  /** How old the answer of a read may be: what was replaced longer ago than this before the question must not be shown. */
  staleMsMax?: number
  /** The read was answered through a cache of `node`, from which a write of the key removes what it replaces. */
  cached?: boolean
  /** Of `take`: at most `max` are admitted in any window of `windowMs`. */
  limit?: RateLimit
  /**
   * The fencing token under which it was done, which grows each time that a lease is granted: the number of a job's claim, the epoch (timeline,
   * term) of a primary. A history has one lease for the primary, and one for each key of `claim`.
   */
  token?: number
  /** Places in the log by database, in the form of `positionToJson`. */
  position?: Readonly<Record<string, string>>
  /** Monotonic time in ms. */
  beganAt: number
  /** When its outcome was known; of `info`, when it was given up. */
  endedAt: number
  /**
   * `ok`: it happened. `fail`: it is certain that it did not, and never will. `info`: it may have happened, or may still happen: a time-out,
   * a broken connection, an answer that says so.
   */
  outcome: Outcome
  error?: string
}

/**
 * - `write` and `read` one value of a key. An increment writes no value: its `version` says what came out.
 * - `add` to and `remove` from a collection, and `list` it.
 * - `send` a request with an Idempotency-Key (its value is the answer), and look at the `effects` of all of them.
 * - `change` accounts, and read their `levels` in one snapshot.
 * - `publish` a message (its value); `deliver` it to a group of consumers (the session), once for each try; `drain`: the group has no more
 *   to do. Messages of one key keep their order. A history has one queue, and each group gets all of it.
 * - `take` one unit of a rate limit: `ok` is admitted, `fail` is refused.
 * - `claim` a lease, such as that of a job's run, and `complete` what it was for.
 */
export type Kind =
  | 'write'
  | 'read'
  | 'add'
  | 'remove'
  | 'list'
  | 'send'
  | 'effects'
  | 'change'
  | 'levels'
  | 'publish'
  | 'deliver'
  | 'drain'
  | 'take'
  | 'claim'
  | 'complete'
export interface RateLimit {
  readonly max: number
  readonly windowMs: number
}

export type Outcome = 'ok' | 'fail' | 'info'
export type Value = string | number

/** Something that was promised and did not hold, told in words. */
export interface Anomaly {
  /** One or two sentences, with times in seconds since the history began. */
  text: string
  /** The operations that prove it, each once; there may be more to it, see `counterExample`. */
  operations: readonly Operation[]
}

/** What a checker has found. */
export interface Verdict {
  checker: string
  /** How many answers were checked. A verdict without any says nothing. */
  checked: number
  count: number
  /** The first of them, at most `anomaliesMax`. */
  anomalies: readonly Anomaly[]
}

export const anomaliesMax = 20

/** A verdict that is being made. */
export type Open = Verdict & { add(anomaly: Anomaly): void; checked: number }

/** Counts anomalies, and keeps the first. */
export function verdictOf(checker: string): Open {
  const anomalies: Anomaly[] = []
  return {
    checker,
    checked: 0,
    count: 0,
    anomalies,
    add({ text, operations }) {
      this.count += 1
      if (anomalies.length < anomaliesMax) anomalies.push({ text, operations: [...new Set(operations)] })
    },
  }
}

/** Returns the value of the key, which is made if there is none. */
export function obtain<Key, Value>(map: Map<Key, Value>, key: Key, make: () => Value): Value {
  let value = map.get(key)
  if (value === undefined) {
    value = make()
    map.set(key, value)
  }
  return value
}

/** Returns the operations by a property of theirs, without those that have none. */
export function groupsOf(
  operations: Iterable<Operation>,
  groupOf: (operation: Operation) => string | undefined,
): ReadonlyMap<string, Operation[]> {
  const groups = new Map<string, Operation[]>()
  for (const operation of operations) {
    const group = groupOf(operation)
    if (group !== undefined) obtain(groups, group, (): Operation[] => []).push(operation)
  }
  return groups
}

/** Returns a function that tells when something happened: `at 12.031 s`. */
export function timesOf(operations: readonly Operation[]): (ms: number) => string {
  let first: number | undefined // only looked for when there is something to tell
  const began = () => operations.reduce((least, { beganAt }) => Math.min(least, beganAt), Number.POSITIVE_INFINITY)
  return (ms) => {
    first ??= began()
    return `${((ms - first) / 1_000).toFixed(3)} s`
  }
}

/** Returns where an operation was answered, as words that follow others: ` on web-1 at 11.870 s`. */
export function placeOf({ node, beganAt }: Operation, time: (ms: number) => string): string {
  return `${node === undefined ? '' : ` on ${node}`} at ${time(beganAt)}`
}
