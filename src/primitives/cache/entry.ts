import type { Position } from '../../kernel/position.ts'
import type { Tag } from './tags.ts'

/** What a value becomes by being kept: JSON, and back. */
export type Stored<Value> = Value extends { toJSON(): infer Json }
  ? Json
  : Value extends string | number | boolean | null | undefined
    ? Value
    : Value extends readonly unknown[]
      ? { readonly [Index in keyof Value]: Stored<Value[Index]> }
      : Value extends object
        ? { readonly [Name in keyof Value]: Stored<Value[Name]> }
        : never

/** One entry in the memory of this process. Times are ms on the wall clock: other processes read them too. */
export interface Entry {
  /** Frozen: all readers share it. */
  readonly value: unknown
  readonly tags: readonly Tag[]
  /** When its load began, on the count of `Tags`: whatever was invalidated later makes it useless. */
  readonly asOf: number
  /** Its load saw at least this much. */
  readonly position: Position
  /** Its load saw no more than this. `undefined`: than `position`, or no session can see less elsewhere. */
  readonly seen: Position | undefined
  /** From here on a reader has it loaded anew in the background. */
  readonly refreshAt: number
  readonly freshUntil: number
  readonly staleUntil: number
}

/** An entry as it lies in the shared layer. */
export interface SharedEntry {
  value: unknown
  /** The JSON text of the value, if it is known. */
  json?: string | undefined
  bytes: number
  /** Texts of the tags. */
  names: readonly string[]
  position: Position
  seen: Position | undefined
  refreshAt: number
  freshUntil: number
  staleUntil: number
}

export interface Lifetimes {
  ttlMs: number
  graceMs: number
  absentTtlMs: number
}

/** Shares of the ttl: entries that were loaded together must not expire together, and the last part is for the early refresh. */
const jitterShare = 0.1
const refreshShare = 0.1

/** When an entry that is loaded now is due. */
export function timesOf(
  value: unknown,
  { ttlMs, graceMs, absentTtlMs }: Lifetimes,
  now: number,
  random: number,
): Pick<Entry, 'refreshAt' | 'freshUntil' | 'staleUntil'> {
  const ttl = value === undefined || value === null ? Math.min(ttlMs, absentTtlMs) : ttlMs
  const lasting = ttl * (1 - jitterShare * random)
  return {
    refreshAt: now + lasting * (1 - refreshShare),
    freshUntil: now + lasting,
    staleUntil: now + lasting + graceMs,
  }
}

/** The value as every layer keeps it, and how many bytes its JSON has in memory (two for each character, at most). */
export function store(value: unknown): { value: unknown; json: string | undefined; bytes: number } {
  const json = JSON.stringify(value)
  if (json === undefined) return { value: undefined, json, bytes: 0 }
  return { value: frozen(JSON.parse(json)), json, bytes: 2 * json.length }
}

export function frozen(value: unknown): unknown {
  if (typeof value === 'object' && value !== null) {
    // Without lists of what is in it: they would cost more than the freezing.
    if (Array.isArray(value)) for (let at = 0; at < value.length; at += 1) frozen(value[at])
    else for (const name in value) frozen((value as Record<string, unknown>)[name])
    Object.freeze(value)
  }
  return value
}
