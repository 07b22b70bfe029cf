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
import { proofOf, type Registers, registersOf } from './registers.ts'
import { nameOf } from './sessions.ts'

/**
 * Checks that no acknowledged write is lost, and that nothing appears which nobody wrote or which was refused.
 *
 * A value that was written must be there, or a newer one, in each `fresh` read of its key that begins later. An element that was added must be in
 * the last `fresh` list of its collection that begins later, unless somebody tried to remove it; one that was removed must not. `checked`
 * counts acknowledged writes that such a read covers, so it is small where nobody looked in the end.
 * @throws HISTORY_INVALID if a value is written to a key twice
 */
export function checkLostWrites(operations: readonly Operation[], registers = registersOf(operations)): Verdict {
  const verdict = verdictOf('acknowledged-writes')
  checkRegisters(operations, registers, verdict)
  checkCollections(operations, verdict)
  return verdict
}

function checkRegisters(operations: readonly Operation[], registers: Registers, verdict: Open): void {
  const time = timesOf(operations)
  /** When the last fresh read of a key began. */
  const lookedAt = new Map<string, number>()
  for (const read of operations) {
    if (read.kind !== 'read' || read.outcome !== 'ok') continue
    const seen = registers.seenBy(read)
    if (!seen) {
      verdict.add({
        text: `Session ${read.session} read ${read.value ?? `version ${read.version}`} of ${read.key}${placeOf(read, time)}, which nobody can have written.`,
        operations: [read],
      })
      continue
    }
    if (!read.fresh) continue
    if (!(lookedAt.get(read.key)! > read.beganAt)) lookedAt.set(read.key, read.beganAt)
    const lost = seen.register.newerBefore(read.beganAt, seen)
    if (lost)
      verdict.add({
        text: `${nameOf(lost)} of ${read.key} was there by ${time(lost.knownAt)}, and a read of the primary${placeOf(read, time)} has ${nameOf(seen)}, which is older.`,
        operations: proofOf(seen, lost, read),
      })
  }
  for (const { kind, outcome, key, endedAt } of operations)
    if (kind === 'write' && outcome === 'ok' && endedAt < lookedAt.get(key)!) verdict.checked += 1
}

interface Collection {
  adds: Map<Value, Operation>
  removes: Map<Value, Operation>
  last?: Operation
}

function checkCollections(operations: readonly Operation[], verdict: Open): void {
  const time = timesOf(operations)
  const collections = new Map<string, Collection>()
  const of = (key: string) =>
    obtain<string, Collection>(collections, key, () => ({ adds: new Map(), removes: new Map() }))
  for (const operation of operations) {
    const { kind, key, value, outcome, fresh, beganAt } = operation
    if (kind === 'add') of(key).adds.set(value!, operation)
    else if (kind === 'remove' && outcome !== 'fail') of(key).removes.set(value!, operation)
    else if (kind === 'list' && fresh && outcome === 'ok' && beganAt >= (of(key).last?.beganAt ?? 0))
      of(key).last = operation
  }
  for (const [key, { adds, removes, last }] of collections) {
    if (!last) continue
    const there = new Set(last.values)
    for (const [value, add] of adds) {
      const removal = removes.get(value)
      if (add.outcome !== 'ok' || !(add.endedAt < last.beganAt)) continue
      verdict.checked += 1
      if (!there.has(value) && !(removal && removal.beganAt < last.endedAt))
        verdict.add({
          text: `${value} was added to ${key}${placeOf(add, time)} and acknowledged at ${time(add.endedAt)}, and the list at ${time(last.beganAt)} does not have it.`,
          operations: [add, last],
        })
      if (there.has(value) && removal?.outcome === 'ok' && removal.endedAt < last.beganAt)
        verdict.add({
          text: `${value} was removed from ${key}${placeOf(removal, time)}, acknowledged at ${time(removal.endedAt)}, and the list at ${time(last.beganAt)} still has it.`,
          operations: [add, removal, last],
        })
    }
    for (const value of there) {
      const add = adds.get(value)
      if (add && add.outcome !== 'fail' && add.beganAt < last.endedAt) continue
      const why = add ? `whose addition${placeOf(add, time)} was refused` : 'which nobody added'
      verdict.add({
        text: `The list of ${key} at ${time(last.beganAt)} has ${value}, ${why}.`,
        operations: [...(add ? [add] : []), last],
      })
    }
  }
}
