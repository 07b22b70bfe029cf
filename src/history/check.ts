import { checkCaches } from './caches.ts'
import { type ConservationOptions, checkConservation } from './conservation.ts'
import { checkEffects } from './effects.ts'
import { checkLeases } from './leases.ts'
import { checkLimits } from './limits.ts'
import { checkLostWrites } from './lost.ts'
import { minimise } from './minimise.ts'
import type { Anomaly, Kind, Operation, Verdict } from './operation.ts'
import { checkQueue } from './queue.ts'
import { type Registers, registersOf } from './registers.ts'
import { checkSessions } from './sessions.ts'
import { checkStaleness } from './staleness.ts'
import { checkUpdates } from './updates.ts'
import { checkWriters } from './writers.ts'

export interface HistoryOptions {
  conservation?: ConservationOptions
}

type Checker = (operations: readonly Operation[], registers: Registers, options: HistoryOptions) => readonly Verdict[]

const checkers: readonly Checker[] = [
  (operations, registers) => [checkLostWrites(operations, registers)],
  (operations, registers) => Object.values(checkSessions(operations, registers)),
  (operations, registers) => [checkStaleness(operations, registers)],
  (operations, registers) => [checkCaches(operations, registers)],
  (operations, registers) => [checkUpdates(operations, registers)],
  (operations) => [checkEffects(operations)],
  (operations, _, { conservation }) => [checkConservation(operations, conservation)],
  (operations) => [checkQueue(operations)],
  (operations) => [checkLimits(operations)],
  (operations) => [checkLeases(operations)],
  (operations) => [checkWriters(operations)],
]

/**
 * Runs every checker.
 * @returns a verdict of each, also of those that found nothing to check (`checked` is 0): these say nothing
 * @throws HISTORY_INVALID if a value is written to a key twice, or a message is published twice
 * @example
 * const wrong = checkHistory(recorder.operations()).filter(({ count }) => count > 0)
 */
export function checkHistory(operations: readonly Operation[], options: HistoryOptions = {}): Verdict[] {
  const registers = registersOf(operations)
  return checkers.flatMap((check) => check(operations, registers, options))
}

/**
 * Returns the operations that still show an anomaly when all others are left out, as few as could be found: without any one of them the checker
 * no longer says the same. Where it needs more work than it may do, there may be more of them.
 *
 * @param checker the name of the verdict that has the anomaly
 * @param options as they were for `checkHistory`
 */
export function counterExample(
  operations: readonly Operation[],
  { checker, anomaly, options = {} }: { checker: string; anomaly: Anomaly; options?: HistoryOptions },
): readonly Operation[] {
  // On no operations each checker is quick, and tells the names of its verdicts.
  const check = checkers.find((one) => one([], registersOf([]), options).some((verdict) => verdict.checker === checker))
  const words = withoutTimes(anomaly)
  const shows = (some: readonly Operation[]) =>
    check?.(some, registersOf(some), options)
      .find((verdict) => verdict.checker === checker)
      ?.anomalies.some((one) => withoutTimes(one) === words) ?? false
  const keys = new Set(anomaly.operations.map(({ key }) => key))
  const sessions = new Set(anomaly.operations.map(({ session }) => session))
  if (shows(anomaly.operations)) return minimise(anomaly.operations, shows)
  const ofKind = operations.filter(({ kind }) => kindsBeside(anomaly).has(kind))
  const related = ofKind.filter(({ key, session }) => keys.has(key) || sessions.has(session))
  return minimise([related, ofKind].find(shows) ?? operations, shows)
}

/** Kinds of operations that say something of each other. */
const kindsTogether: readonly (readonly Kind[])[] = [
  ['write', 'read'],
  ['add', 'remove', 'list'],
  ['send', 'effects'],
  ['change', 'levels'],
  ['publish', 'deliver', 'drain'],
  ['take'],
  ['claim', 'complete'],
]

function kindsBeside({ operations }: Anomaly): ReadonlySet<Kind> {
  return new Set(kindsTogether.flatMap((kinds) => (operations.some(({ kind }) => kinds.includes(kind)) ? kinds : [])))
}

/**
 * What makes two anomalies the same: all words but the times, which count from the beginning of the history and change with it. Any anomaly of the
 * checker would not do: without its write, a read shows what nobody wrote.
 */
const withoutTimes = ({ text }: Anomaly) => text.replaceAll(/-?\d+\.\d{3} s/g, '')
