import { RungError } from '../kernel/errors.ts'
import { type Operation, obtain, type Value } from './operation.ts'

/** What a read may have seen of a key: the value of a write, or what was there before all of them. */
export interface Seen {
  value: Value | null | undefined
  /** The write, if the history has it. */
  write: Operation | undefined
  /** It did not exist before. */
  beganAt: number
  /** It existed from here on at the latest: its acknowledgement, or an earlier answer that showed it. */
  knownAt: number
  version: number | undefined
  /** The other values of its key. */
  register: Register
}

/** The values of all keys that are written and read. */
export interface Registers {
  /** Returns what a read has seen, or what a write has written; `undefined` if nobody can have written it. */
  seenBy(operation: Operation): Seen | undefined
  /** Returns what a write says that it replaced; `undefined` if it says nothing, or if nobody can have written that. */
  basisOf(write: Operation): Seen | undefined
}

/**
 * Returns whether `one` was replaced before `other` came. By the store's own numbers where both have one, otherwise by real time: a value
 * that was there before the other one was sent. Of two writes that ran at the same time nobody knows which came first.
 */
export function isOlder(one: Seen, other: Seen): boolean {
  if (one.version !== undefined && other.version !== undefined) return one.version < other.version
  return one.knownAt < other.beganAt
}

/** Returns what proves that a read has seen something that is too old: the writes, as far as the history has them, and the read. */
export function proofOf(seen: Seen, newer: Seen, ...others: readonly Operation[]): Operation[] {
  return [seen.write, newer.write, ...others].filter((one) => one !== undefined)
}

const isWriteOrRead = ({ kind }: Operation) => kind === 'write' || kind === 'read'

/** Collects the writes of each key. Writes that are certain not to have happened are left out. */
export function registersOf(operations: readonly Operation[]): Registers {
  const registers = new Map<string, Register>()
  for (const operation of operations) {
    if (!isWriteOrRead(operation)) continue
    const register = obtain(registers, operation.key, () => new Register(operation.key))
    if (operation.kind === 'write') register.add(operation)
  }
  // Each operation is looked up once: a million of them are spread over the memory.
  const byId: (Seen | undefined)[] = []
  for (const operation of operations) {
    if (!isWriteOrRead(operation) || operation.outcome === 'fail') continue
    const register = registers.get(operation.key)!
    const seen = register.seenBy(operation)
    byId[operation.id] = seen
    // An answer that shows a value proves that it is there, also if its own writer never hears of it.
    const shown = operation.kind === 'read' ? seen : register.basisOf(operation)
    if (shown?.write && operation.outcome === 'ok' && operation.endedAt < shown.knownAt)
      shown.knownAt = operation.endedAt
  }
  return {
    seenBy: ({ id }) => byId[id],
    basisOf: (write) => registers.get(write.key)!.basisOf(write),
  }
}

/** The values of one key, in the order in which they are known to have been there. */
export class Register {
  readonly #key: string
  readonly #byValue = new Map<Value, Seen>()
  readonly #byVersion = new Map<number, Seen>()
  readonly #initial: Seen = {
    register: this,
    value: null,
    write: undefined,
    beganAt: Number.NEGATIVE_INFINITY,
    knownAt: Number.NEGATIVE_INFINITY,
    version: Number.NEGATIVE_INFINITY,
  }
  /** By `knownAt`; beside each the newest so far, by time and by version. */
  #sorted: { knownAt: number; newest: Seen; highest: Seen | undefined }[] | undefined

  constructor(key: string) {
    this.#key = key
  }

  add(write: Operation): void {
    const { value, version, beganAt, endedAt, outcome } = write
    if (outcome === 'fail') return
    const knownAt = outcome === 'ok' ? endedAt : Number.POSITIVE_INFINITY
    const seen = { register: this, value, version, write, beganAt, knownAt }
    if (value !== undefined && value !== null) {
      if (this.#byValue.has(value))
        throw new RungError(
          'HISTORY_INVALID',
          `The value ${value} is written to ${this.#key} twice, so nobody can tell what a read has seen. Write another value each time.`,
        )
      this.#byValue.set(value, seen)
    }
    if (version !== undefined) this.#byVersion.set(version, seen)
  }

  seenBy({ value, version, endedAt }: Operation): Seen | undefined {
    if (value === null) return this.#initial
    const seen = value !== undefined ? this.#byValue.get(value) : this.#byVersion.get(version!)
    if (seen) {
      if (seen.version === undefined && version !== undefined) seen.version = version
      return seen.beganAt > endedAt ? undefined : seen
    }
    if (value !== undefined) return undefined
    // Written by somebody whom the history does not know.
    return version === undefined
      ? undefined
      : {
          register: this,
          value,
          version,
          write: undefined,
          beganAt: Number.NEGATIVE_INFINITY,
          knownAt: Number.POSITIVE_INFINITY,
        }
  }

  basisOf({ basedOn, endedAt }: Operation): Seen | undefined {
    if (basedOn === undefined) return undefined
    if (basedOn === null) return this.#initial
    const seen = this.#byValue.get(basedOn)
    return seen && seen.beganAt <= endedAt ? seen : undefined
  }

  /** Returns a value that is newer than `seen`, by either order, and is known to have been there before `ms`. */
  newerBefore(ms: number, seen: Seen): Seen | undefined {
    this.#sorted ??= this.#sort()
    let low = 0
    let high = this.#sorted.length
    while (low < high) {
      const middle = (low + high) >>> 1
      if (this.#sorted[middle]!.knownAt < ms) low = middle + 1
      else high = middle
    }
    const found = this.#sorted[low - 1]
    if (!found) return undefined
    if (found.highest && isOlder(seen, found.highest)) return found.highest
    return isOlder(seen, found.newest) ? found.newest : undefined
  }

  #sort() {
    const all = new Set([...this.#byValue.values(), ...this.#byVersion.values()])
    const known = [...all].filter(({ knownAt }) => knownAt !== Number.POSITIVE_INFINITY)
    known.sort((a, b) => a.knownAt - b.knownAt)
    let newest = known[0]!
    let highest: Seen | undefined
    return known.map((seen) => {
      if (seen.beganAt > newest.beganAt) newest = seen
      if (seen.version !== undefined && seen.version > (highest?.version ?? Number.NEGATIVE_INFINITY)) highest = seen
      return { knownAt: seen.knownAt, newest, highest }
    })
  }
}
