import type { Operation } from './operation.ts'

export interface MinimiseOptions {
  /** At most so many operations are checked, over all tries. Default 2,000,000. */
  workMax?: number
}

/**
 * Returns a part of the operations that still `shows` something, from which no single one can be left out, unless there is too much to do.
 *
 * Source: ddmin, in Andreas Zeller and Ralf Hildebrandt, "Simplifying and Isolating Failure-Inducing Input", IEEE Transactions on Software
 * Engineering 28(2), 2002.
 * @param shows must be true for all operations together
 * @example
 * minimise(operations, (some) => checkQueue(some).count > 0)
 */
export function minimise(
  operations: readonly Operation[],
  shows: (some: readonly Operation[]) => boolean,
  { workMax = 2_000_000 }: MinimiseOptions = {},
): readonly Operation[] {
  let current = operations
  let parts = 2
  let work = 0
  const stillShows = (some: readonly Operation[]) => {
    work += some.length
    return work <= workMax && shows(some)
  }
  while (current.length >= 2 && work <= workMax) {
    const chunks = chunksOf(current, parts)
    const chunk = chunks.find(stillShows)
    const rest = chunk ?? firstRest(chunks, stillShows)
    if (rest) {
      current = rest
      parts = chunk ? 2 : Math.max(parts - 1, 2)
    } else if (parts < current.length) parts = Math.min(parts * 2, current.length)
    else break
  }
  return current
}

function chunksOf(operations: readonly Operation[], parts: number): Operation[][] {
  return Array.from({ length: parts }, (_, n) =>
    operations.slice(Math.floor((n * operations.length) / parts), Math.floor(((n + 1) * operations.length) / parts)),
  )
}

/** Returns the first of all chunks but one that will do. */
function firstRest(
  chunks: readonly Operation[][],
  isEnough: (some: readonly Operation[]) => boolean,
): Operation[] | undefined {
  for (const chunk of chunks) {
    const rest = chunks.filter((one) => one !== chunk).flat()
    if (isEnough(rest)) return rest
  }
  return undefined
}
