/** What a client did, with the times of its clock. All clients of one history use the same clock. */
export interface Operation {
  /** Unique in the history. */
  id: number
  kind: Kind
  /** Who did it. A session is promised that it sees what it did and saw before. */
  session: string
  /** What was read or written: a row, a collection, an Idempotency-Key. */
  key: string
  /** Where it was answered. */
  node?: string
  /**
   * What was written, known when it begins; or what was read, where `null` means that the key has no value yet. Each value is written to a
   * key by one operation only: otherwise nobody could tell what a read has seen. An operation that is repeated after an unknown outcome is
   * still one operation.
   */
  value?: Value | null
  /** A number that the store gives to this value, and that grows with each write of the key: a counter, a row's version. */
  version?: number
  /** Of `list`, all elements of the collection; of `effects`, one Idempotency-Key for each effect. */
  values?: readonly Value[]
  /** Of `change`, what is added to which account; of `levels`, what the accounts hold. */
  amounts?: Readonly<Record<string, number>>
  /**
   * The answer must show everything that was acknowledged to anybody before the question: a read of the primary. Other reads may be late,
   * within what their session is promised.
   */
  fresh?: boolean
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
 * `write` and `read` one value of a key; `add` to and `remove` from a collection, and `list` it; `send` a request with an Idempotency-Key
 * (its value is the answer), and `effects`, what all of them have left; `change` accounts, and read their `levels` in one snapshot.
 */
export type Kind = 'write' | 'read' | 'add' | 'remove' | 'list' | 'send' | 'effects' | 'change' | 'levels'
export type Outcome = 'ok' | 'fail' | 'info'
export type Value = string | number

/** Something that was promised and did not hold, told in words. */
export interface Anomaly {
  /** One or two sentences, with times in seconds since the history began. */
  text: string
  /** The operations that prove it. */
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

/** Counts anomalies, and keeps the first. */
export function verdictOf(checker: string): Verdict & { add(anomaly: Anomaly): void; checked: number } {
  const anomalies: Anomaly[] = []
  return {
    checker,
    checked: 0,
    count: 0,
    anomalies,
    add(anomaly) {
      this.count += 1
      if (anomalies.length < anomaliesMax) anomalies.push(anomaly)
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

/** Returns a function that tells when something happened: `at 12.031 s`. */
export function timesOf(operations: readonly Operation[]): (ms: number) => string {
  let first = Number.POSITIVE_INFINITY
  for (const { beganAt } of operations) if (beganAt < first) first = beganAt
  return (ms) => `${((ms - first) / 1_000).toFixed(3)} s`
}

/** Returns where an operation was answered, as words that follow others: ` on web-1 at 11.870 s`. */
export function placeOf({ node, beganAt }: Operation, time: (ms: number) => string): string {
  return `${node === undefined ? '' : ` on ${node}`} at ${time(beganAt)}`
}
