import { type Open, type Operation, obtain, placeOf, timesOf, type Verdict, verdictOf } from './operation.ts'

export interface ConservationOptions {
  /** What the accounts held before the history began; 0 for one that is not named. Default: what a snapshot shows that ends before the first change. */
  initial?: Readonly<Record<string, number>>
  /** No account may ever hold less. Default: no limit. */
  least?: number
  /** All changes move amounts from one account to another, so that every snapshot has the same sum. Default false. */
  closed?: boolean
}

/**
 * Checks that amounts neither appear nor vanish: stock, money. `change` adds amounts to accounts, `levels` reads them in one snapshot.
 *
 * Every snapshot obeys `least` and, if `closed`, has the sum of the beginning. In the last fresh one, each account holds what it had, all
 * acknowledged changes, and of those with an unknown outcome some or none, where each happens as a whole. `checked` counts the
 * acknowledged ones, and if `closed` the snapshots.
 */
export function checkConservation(operations: readonly Operation[], options: ConservationOptions = {}): Verdict {
  const { initial = snapshotBefore(operations), least = Number.NEGATIVE_INFINITY, closed = false } = options
  const verdict = verdictOf('conservation')
  const time = timesOf(operations)
  const sumOf = (amounts: Readonly<Record<string, number>>) => Object.values(amounts).reduce((sum, one) => sum + one, 0)
  const whole = sumOf(initial)
  let last: Operation | undefined
  for (const operation of operations) {
    if (operation.kind !== 'levels' || operation.outcome !== 'ok') continue
    if (operation.fresh && !(last && last.beganAt > operation.beganAt)) last = operation
    for (const [account, level] of Object.entries(operation.amounts ?? {}))
      if (level < least)
        verdict.add({
          text: `${account} held ${level}${placeOf(operation, time)}, less than ${least}.`,
          operations: [operation],
        })
    if (!closed) continue
    verdict.checked += 1
    const sum = sumOf(operation.amounts ?? {})
    if (sum !== whole)
      verdict.add({
        text: `All accounts together held ${sum}${placeOf(operation, time)}, and ${whole} in the beginning.`,
        operations: [operation],
      })
  }
  if (last) checkLast(operations, last, initial, verdict, time)
  return verdict
}

function snapshotBefore(operations: readonly Operation[]): Readonly<Record<string, number>> {
  const firstChangeAt = operations.reduce(
    (first, { kind, beganAt }) => (kind === 'change' && beganAt < first ? beganAt : first),
    Number.POSITIVE_INFINITY,
  )
  const snapshot = operations.find(
    ({ kind, outcome, endedAt }) => kind === 'levels' && outcome === 'ok' && endedAt < firstChangeAt,
  )
  return snapshot?.amounts ?? {}
}

interface Account {
  level: number
  /** What changes with an unknown outcome may have added, and taken away. */
  maybeMore: number
  maybeLess: number
  unknown: Operation[]
  /** All that add to it, or may have. */
  changes: Operation[]
}

function checkLast(
  operations: readonly Operation[],
  last: Operation,
  initial: Readonly<Record<string, number>>,
  verdict: Open,
  time: (ms: number) => string,
): void {
  const accounts = new Map<string, Account>()
  const of = (name: string) =>
    obtain(accounts, name, () => ({ level: initial[name] ?? 0, maybeMore: 0, maybeLess: 0, unknown: [], changes: [] }))
  for (const name of [...Object.keys(initial), ...Object.keys(last.amounts ?? {})]) of(name)
  for (const change of operations) {
    if (change.kind !== 'change' || change.outcome === 'fail' || change.beganAt > last.endedAt) continue
    const isKnown = change.outcome === 'ok' && change.endedAt < last.beganAt
    if (isKnown) verdict.checked += 1
    for (const [name, amount] of Object.entries(change.amounts ?? {})) {
      const account = of(name)
      account.changes.push(change)
      if (isKnown) account.level += amount
      else {
        account.unknown.push(change)
        if (amount > 0) account.maybeMore += amount
        else account.maybeLess += amount
      }
    }
  }
  const before = operations.filter(({ kind, amounts }) => kind === 'levels' && amounts === initial)
  for (const [name, { level, maybeMore, maybeLess, unknown, changes }] of accounts) {
    const held = last.amounts?.[name] ?? 0
    if (held >= level + maybeLess && held <= level + maybeMore) continue
    const maybe = unknown.length === 0 ? '' : ` to ${level + maybeMore}, by ${unknown.length} with an unknown outcome`
    verdict.add({
      text: `${name} held ${held}${placeOf(last, time)}; its acknowledged changes make ${level + maybeLess}${maybe}.`,
      operations: [...before, ...changes, last],
    })
  }
}
