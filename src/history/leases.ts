import { groupsOf, type Open, type Operation, timesOf, type Verdict, verdictOf } from './operation.ts'

type Time = (ms: number) => string

/**
 * Checks that a lease fences: `claim` grants one of `key` with a `token`, and `complete` ends what it was for.
 *
 * - At most one completion is accepted.
 * - None is accepted that comes with an older token than one that was granted before the completion began.
 * - Tokens grow: a claim does not get one that was granted before, or an older one.
 *
 * A claim with an unknown outcome counts from when somebody completes with its token. `checked` counts claims and completions that were accepted.
 */
export function checkLeases(operations: readonly Operation[]): Verdict {
  const verdict = verdictOf('fenced-completion')
  const time = timesOf(operations)
  const leases = groupsOf(operations, ({ kind, key }) => (kind === 'claim' || kind === 'complete' ? key : undefined))
  for (const lease of leases.values()) {
    let accepted: Operation | undefined
    for (const operation of lease) {
      if (operation.outcome !== 'ok') continue
      verdict.checked += 1
      if (operation.kind !== 'complete') continue
      if (accepted)
        verdict.add({
          text: `${operation.key} was completed by session ${accepted.session} at ${time(accepted.beganAt)} and by session ${operation.session} at ${time(operation.beganAt)}, and both were accepted.`,
          operations: [accepted, operation],
        })
      accepted ??= operation
    }
    checkTokens(lease, verdict, time)
  }
  return verdict
}

function checkTokens(lease: readonly Operation[], verdict: Open, time: Time): void {
  for (const [operation, newest] of afterNewest(lease, grantedAt)) {
    const isOld = operation.token! < newest.token! || (operation.token === newest.token && operation.kind === 'claim')
    if (!isOld || operation.outcome !== 'ok') continue
    const what = operation.kind === 'claim' ? 'was granted to' : 'was completed by'
    const how = newest.kind === 'claim' ? 'was granted to' : 'was used by'
    verdict.add({
      text: `${operation.key} ${what} session ${operation.session} with token ${operation.token} at ${time(operation.beganAt)}, although token ${newest.token} ${how} session ${newest.session} by ${time(grantedAt(newest))}.`,
      operations: [newest, operation],
    })
  }
}

/** A token is known from the answer to its claim; who completes with it has got that answer. */
const grantedAt = ({ kind, outcome, beganAt, endedAt }: Operation) =>
  kind === 'complete' ? beganAt : outcome === 'ok' ? endedAt : Number.POSITIVE_INFINITY

/** Yields each operation with a token, in the order in which they began, and which has the newest token that was known before it began. */
export function* afterNewest(
  operations: readonly Operation[],
  knownAt: (operation: Operation) => number,
): Generator<[operation: Operation, newest: Operation]> {
  const withToken = operations.filter(({ token }) => token !== undefined)
  const begins = withToken.toSorted((a, b) => a.beganAt - b.beganAt)
  const known = withToken.filter((one) => knownAt(one) !== Number.POSITIVE_INFINITY)
  known.sort((a, b) => knownAt(a) - knownAt(b))
  let newest: Operation | undefined
  let next = 0
  for (const operation of begins) {
    for (; next < known.length && knownAt(known[next]!) < operation.beganAt; next += 1)
      if (!(newest && newest.token! >= known[next]!.token!)) newest = known[next]
    if (newest) yield [operation, newest]
  }
}
