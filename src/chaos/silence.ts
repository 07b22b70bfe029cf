/**
 * Returns the longest time without an answer that begins in the stretch, or is under way in its beginning. What goes on beyond its end counts
 * too, but not after `until`.
 * @param answers when there was one, in order
 */
export function longestSilence(answers: readonly number[], from: number, to: number, until = to): number {
  let longest = 0
  let since = from
  for (const at of answers) {
    if (at <= from) continue
    longest = Math.max(longest, Math.min(at, until) - since)
    since = at
    if (since >= to) break
  }
  if (since < to) longest = Math.max(longest, until - since) // there was none any more
  return Math.round(longest)
}
