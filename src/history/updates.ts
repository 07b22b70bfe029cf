import {
  type Open,
  type Operation,
  obtain,
  placeOf,
  timesOf,
  type Value,
  type Verdict,
  verdictOf,
} from './operation.ts'
import { proofOf, registersOf, type Seen } from './registers.ts'
import { nameOf } from './sessions.ts'

/** Which write has replaced a value, and which has a version. */
interface Chain {
  byBasis: Map<Value | null, Operation>
  byVersion: Map<number, Operation>
}

/**
 * Checks that no update is lost where two sessions read the same, change it, and write it back: P4 in Hal Berenson et al., "A Critique of ANSI SQL
 * Isolation Levels", SIGMOD 1995.
 *
 * - A write with `basedOn` happens only if that is still there. So of two that are based on the same value at most one happens.
 * - Its basis was not replaced before the write began, by what anybody was told or shown until then.
 * - No two acknowledged writes of a key have the same `version`: increments that were both told "5" are one increment.
 *
 * A write with an unknown outcome counts once somebody has read its value, or based a write on it.
 * @throws HISTORY_INVALID if a value is written to a key twice
 */
export function checkUpdates(operations: readonly Operation[], registers = registersOf(operations)): Verdict {
  const verdict = verdictOf('no-lost-update')
  const time = timesOf(operations)
  const chains = new Map<string, Chain>()
  for (const write of operations) {
    const { kind, key, outcome, version, basedOn } = write
    if (kind !== 'write' || outcome === 'fail' || (version === undefined && basedOn === undefined)) continue
    if (outcome !== 'ok' && !isShown(registers.seenBy(write))) continue
    verdict.checked += 1
    const chain = obtain(chains, key, () => ({ byBasis: new Map(), byVersion: new Map() }))
    if (version !== undefined) {
      const other = obtain(chain.byVersion, version, () => write)
      if (other !== write)
        verdict.add({
          text: `Version ${version} of ${key} was told to session ${other.session}${placeOf(other, time)} and to session ${write.session}${placeOf(write, time)}: one of the two writes is lost.`,
          operations: [other, write],
        })
    }
    if (basedOn === undefined) continue
    const seen = registers.basisOf(write)
    const other = obtain(chain.byBasis, basedOn, () => write)
    if (other !== write)
      verdict.add({
        text: `${update(write)}${placeOf(write, time)}, based on ${basis(basedOn)}, and so did session ${other.session}${placeOf(other, time)}: one of the two writes is lost.`,
        operations: [...(seen?.write ? [seen.write] : []), other, write],
      })
    else if (outcome === 'ok') checkBasis(write, seen, verdict, time)
  }
  return verdict
}

/** The basis was there when the write happened, as if it had been read on the primary. */
function checkBasis(write: Operation, seen: Seen | undefined, verdict: Open, time: (ms: number) => string): void {
  const newer = seen?.register.newerBefore(write.beganAt, seen)
  const what = `${update(write)}${placeOf(write, time)}, based on ${basis(write.basedOn!)}`
  if (!seen) verdict.add({ text: `${what}, which nobody can have written.`, operations: [write] })
  else if (newer)
    verdict.add({
      text: `${what}, although ${nameOf(newer)}, which is newer, was there by ${time(newer.knownAt)}: it is lost.`,
      operations: proofOf(seen, newer, write),
    })
}

const update = ({ session, key, value, version }: Operation) =>
  `Session ${session} wrote ${value ?? `version ${version}`} of ${key}`

const basis = (value: Value | null) => value ?? 'no value'

/** Somebody has read it, or based a write on it. */
const isShown = (seen: Seen | undefined) => seen !== undefined && seen.knownAt !== Number.POSITIVE_INFINITY
