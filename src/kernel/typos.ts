/**
 * Returns how many letters were dropped, inserted, replaced or swapped with their neighbour (optimal string alignment), or ∞ if more
 * than `max`.
 */
export function typosBetween(a: string, b: string, max: number): number {
  const [from, to] = [[...a], [...b]]
  if (Math.abs(from.length - to.length) > max) return Number.POSITIVE_INFINITY
  let before: number[] = []
  let last = Array.from({ length: to.length + 1 }, (_, at) => at)
  for (let i = 1; i <= from.length; i += 1) {
    const row = [i]
    for (let j = 1; j <= to.length; j += 1) {
      const replaced = last[j - 1]! + (from[i - 1] === to[j - 1] ? 0 : 1)
      let cost = Math.min(replaced, last[j]! + 1, row[j - 1]! + 1)
      if (i > 1 && j > 1 && from[i - 1] === to[j - 2] && from[i - 2] === to[j - 1])
        cost = Math.min(cost, before[j - 2]! + 1)
      row.push(cost)
    }
    before = last
    last = row
  }
  const typos = last.at(-1)!
  return typos <= max ? typos : Number.POSITIVE_INFINITY
}

/** Returns the name that was probably meant by a word that is none of them. In a short name two other letters make another word. */
export function nearestOf(word: string, names: Iterable<string>): string | undefined {
  for (const name of names) {
    const max = name.length < 6 ? 1 : 2
    if (typosBetween(word.toLowerCase(), name.toLowerCase(), max) <= max) return name
  }
  return undefined
}
