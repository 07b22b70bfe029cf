import { groupsOf, type Operation, obtain, placeOf, timesOf, type Verdict, verdictOf } from './operation.ts'
import { isOlder, proofOf, type Register, type Registers, registersOf, type Seen } from './registers.ts'

/** What every session is promised, in the order in which a violation is looked for. */
export type SessionVerdicts = Record<'readYourWrites' | 'monotonicReads' | 'writesFollowReads', Verdict>

/**
 * Checks that no session reads something older than
 * - what it has written itself to that key (read your writes),
 * - what it has read of that key before (monotonic reads),
 * - what was known to anybody when a write began that the session has seen or made (writes follow reads). This is more than the name demands,
 *   and it holds where all writes go through one primary: whoever sees a write sees everything that was acknowledged before it was sent.
 *
 * Two operations of a session that overlap may go either way, and so may a write with an unknown outcome until somebody has read it. The time
 * grows with n · log n.
 * @throws HISTORY_INVALID if a value is written to a key twice
 */
export function checkSessions(operations: readonly Operation[], registers = registersOf(operations)): SessionVerdicts {
  const verdicts = {
    readYourWrites: verdictOf('read-your-writes'),
    monotonicReads: verdictOf('monotonic-reads'),
    writesFollowReads: verdictOf('writes-follow-reads'),
  }
  const time = timesOf(operations)
  let checked = 0
  // Writes and reads that have certainly happened.
  const sessions = groupsOf(operations, ({ kind, outcome, session }) =>
    outcome === 'ok' && (kind === 'write' || kind === 'read') ? session : undefined,
  )
  for (const session of sessions.values()) {
    for (const [read, seen, floors, horizon] of readsOf(session, registers)) {
      checked += 1
      const own = floors?.written?.find((floor) => isOlder(seen, floor.seen))
      const before = floors?.read?.find((floor) => isOlder(seen, floor.seen))
      const known = horizon && seen.register.newerBefore(horizon.seen.beganAt, seen)
      if (!own && !before && !known) continue
      const what = `Session ${read.session} read ${nameOf(seen)} of ${read.key}${placeOf(read, time)}`
      if (own)
        verdicts.readYourWrites.add({
          text: `${what}, although it had written ${nameOf(own.seen)}${placeOf(own.by, time)} and knew so at ${time(own.by.endedAt)}.`,
          operations: proofOf(seen, own.seen, own.by, read),
        })
      else if (before)
        verdicts.monotonicReads.add({
          text: `${what}, although it had read ${nameOf(before.seen)}, which is newer, ${placeOf(before.by, time).trim()}.`,
          operations: proofOf(seen, before.seen, before.by, read),
        })
      else if (known)
        verdicts.writesFollowReads.add({
          text: `${what}, although ${nameOf(known)} was there by ${time(known.knownAt)}, before a write of ${horizon.by.key} began at ${time(horizon.seen.beganAt)} which the session knew.`,
          operations: proofOf(seen, known, horizon.seen.write!, horizon.by, read),
        })
    }
  }
  for (const verdict of Object.values(verdicts)) verdict.checked = checked
  return verdicts
}

interface Floor {
  seen: Seen
  by: Operation
}

/** Up to two floors each: the one that began last, and the one with the highest version. */
interface Floors {
  written?: Floor[]
  read?: Floor[]
}

/**
 * Yields each read of a session with what it has seen, and what the session knew when it began: of this key, and of all keys the write that
 * began last (the horizon).
 */
export function* readsOf(
  session: readonly Operation[],
  registers: Registers,
): Generator<[read: Operation, seen: Seen, floors: Floors | undefined, horizon: Floor | undefined]> {
  const begins = session.toSorted((a, b) => a.beganAt - b.beganAt)
  const ends = session.toSorted((a, b) => a.endedAt - b.endedAt)
  const floors = new Map<Register, Floors>()
  let horizon: Floor | undefined
  let next = 0
  for (const read of begins) {
    for (; next < ends.length && ends[next]!.endedAt < read.beganAt; next += 1) {
      const by = ends[next]!
      const seen = registers.seenBy(by)
      if (!seen) continue
      if (seen.write && !(horizon && horizon.seen.beganAt >= seen.beganAt)) horizon = { seen, by }
      const known = obtain<Register, Floors>(floors, seen.register, () => ({}))
      if (by.kind === 'write') known.written = raised(known.written, seen, by)
      else known.read = raised(known.read, seen, by)
    }
    if (read.kind !== 'read') continue
    const seen = registers.seenBy(read)
    if (seen) yield [read, seen, floors.get(seen.register), horizon] // otherwise lost.ts reports it
  }
}

function raised(floors: Floor[] | undefined, seen: Seen, by: Operation): Floor[] {
  if (!floors) return [{ seen, by }]
  const [last, highest = last!] = floors
  const isLast = seen.beganAt > last!.seen.beganAt
  const isHighest = (seen.version ?? -1) > (highest.seen.version ?? -1)
  if (!isLast && !isHighest) return floors
  const floor = { seen, by }
  return isLast && isHighest ? [floor] : isLast ? [floor, highest] : [last!, floor]
}

export function nameOf({ value, version }: Seen): string {
  if (value === null) return 'no value'
  return value === undefined ? `version ${version}` : String(value)
}
