import { type Operation, placeOf, timesOf, type Verdict, verdictOf } from './operation.ts'
import { proofOf, registersOf } from './registers.ts'
import { nameOf } from './sessions.ts'

/**
 * Checks that a read with a `staleMsMax` shows nothing that was replaced longer ago than that, counted back from when it began. A value was
 * replaced at the latest when a newer one was acknowledged to anybody, or shown to anybody.
 * @throws HISTORY_INVALID if a value is written to a key twice
 */
export function checkStaleness(operations: readonly Operation[], registers = registersOf(operations)): Verdict {
  const verdict = verdictOf('bounded-staleness')
  const time = timesOf(operations)
  for (const read of operations) {
    if (read.kind !== 'read' || read.outcome !== 'ok' || read.staleMsMax === undefined) continue
    const seen = registers.seenBy(read)
    if (!seen) continue // no value that was written: lost.ts reports it
    verdict.checked += 1
    const newer = seen.register.newerBefore(read.beganAt - read.staleMsMax, seen)
    if (newer)
      verdict.add({
        text: `Session ${read.session} read ${nameOf(seen)} of ${read.key}${placeOf(read, time)}, which may be ${inSeconds(read.staleMsMax)} old, although ${nameOf(newer)}, which is newer, was there by ${time(newer.knownAt)}.`,
        operations: proofOf(seen, newer, read),
      })
  }
  return verdict
}

const inSeconds = (ms: number) => `${(ms / 1_000).toFixed(3)} s`
