import type { Standbys } from '../engines/process/engine.ts'
import type { Lsn } from '../kernel/position.ts'

/**
 * The decisions of a failover. Pure.
 *
 * What is recorded must hold at every moment, because the primary may be lost at any: each acknowledged commit is on at least one of the recorded
 * replicas, or nothing is recorded. Then the one of them with the most log has all of these commits, provided that every one of them was
 * asked. ("Listed as synchronous" does not mean "caught up", so a replica is recorded as the only one not before it has what came before.)
 */

/** Since when commits have waited for these replicas: everything acknowledged before that is before `lsn`. */
export interface Settled {
  readonly names: readonly string[]
  readonly lsn: Lsn
}

export interface Step {
  /** Write these down. */
  readonly record?: readonly string[]
  /** Then look again: make commits wait for any one of these. */
  readonly apply?: readonly string[]
  /** To be passed to the next call. */
  readonly settled?: Settled | undefined
}

/**
 * Returns the next step towards waiting for the replicas that receive the log now, or `undefined` when there is none.
 * @param recorded what is written down
 */
export function nextStep(
  recorded: readonly string[],
  { applied, streaming, end }: Standbys,
  settled: Settled | undefined,
): Step | undefined {
  const wanted = [...streaming.keys()].sort()
  if (!same(applied, wanted)) {
    if (wanted.length === 0 && recorded.length > 0) return { record: [] }
    const all = [...new Set([...recorded, ...wanted])].sort()
    if (recorded.length > 0 && all.length > recorded.length) return { record: all }
    return { apply: wanted }
  }
  if (same(recorded, wanted)) return undefined
  if (wanted.length === 0) return { record: [] }
  const since = settled && same(settled.names, wanted) ? settled : { names: wanted, lsn: end }
  const hasCaughtUp = settled === since && [...streaming.values()].some((flushed) => flushed >= since.lsn)
  return hasCaughtUp ? { record: wanted } : { settled: since }
}

/**
 * Returns which of the recorded replicas becomes the primary: the one with the most log, the first of equals. `undefined` if there is none, or if
 * one of them has not answered: it may be the only one that has the last commits.
 */
export function successorOf(received: ReadonlyMap<string, Lsn | undefined>): string | undefined {
  let best: { name: string; lsn: Lsn } | undefined
  for (const [name, lsn] of received) {
    if (lsn === undefined) return undefined
    if (!best || lsn > best.lsn) best = { name, lsn }
  }
  return best?.name
}

function same(a: readonly string[], b: readonly string[]): boolean {
  return a.length === b.length && a.every((name, index) => name === b[index])
}
