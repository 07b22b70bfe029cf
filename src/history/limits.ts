import { groupsOf, type Operation, timesOf, type Verdict, verdictOf } from './operation.ts'

/**
 * Checks that a rate limit admits at most `max` in any window of `windowMs`, wherever the window begins. Each `take` says its limit.
 *
 * An admission happened at some time while its client waited for it. Only what is certain is reported: more than `max` admissions that began and
 * ended within less than a window. One with an unknown outcome does not count. `checked` counts admissions.
 */
export function checkLimits(operations: readonly Operation[]): Verdict {
  const verdict = verdictOf('rate-limit')
  const time = timesOf(operations)
  const subjects = groupsOf(operations, ({ kind, outcome, key, limit }) =>
    kind === 'take' && outcome === 'ok' && limit ? `${limit.max}/${limit.windowMs} ${key}` : undefined,
  )
  for (const admitted of subjects.values()) {
    const { max, windowMs } = admitted[0]!.limit!
    verdict.checked += admitted.length
    for (const within of windowsAbove(admitted, max, windowMs)) {
      const to = within.reduce((last, { endedAt }) => Math.max(last, endedAt), 0)
      verdict.add({
        text: `${within.length} of ${within[0]!.key} were admitted between ${time(within[0]!.beganAt)} and ${time(to)}, and its limit is ${max} in ${windowMs / 1_000} s.`,
        operations: within,
      })
    }
  }
  return verdict
}

/**
 * Yields `max + 1` operations for each window, apart from the others, in which there are too many. A window begins with each of
 * them in turn, and has all that end within it, but for those that began before. What takes as long as a window is in none.
 */
function* windowsAbove(admitted: readonly Operation[], max: number, windowMs: number): Generator<Operation[]> {
  const short = admitted.filter(({ beganAt, endedAt }) => endedAt - beganAt < windowMs)
  const begins = short.toSorted((a, b) => a.beganAt - b.beganAt)
  const ends = short.toSorted((a, b) => a.endedAt - b.endedAt)
  const inside = new Set<Operation>()
  let next = 0
  let reportedTo = Number.NEGATIVE_INFINITY
  for (const operation of begins) {
    if (operation.beganAt < reportedTo) continue
    const windowEnd = operation.beganAt + windowMs
    for (; next < ends.length && ends[next]!.endedAt < windowEnd; next += 1)
      if (ends[next]!.beganAt >= operation.beganAt) inside.add(ends[next]!)
    if (inside.size > max) {
      yield [...inside].slice(0, max + 1).sort((a, b) => a.beganAt - b.beganAt)
      inside.clear()
      reportedTo = windowEnd
    } else inside.delete(operation)
  }
}
