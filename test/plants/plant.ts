import { readFileSync } from 'node:fs'
import path from 'node:path'
import type { WorkloadName } from './workload.ts'

/** A fault of the product that only tests switch on, as an edit of one of its sources, which is made while that is loaded. */
export interface Plant {
  name: string
  /** Relative to `src/`. */
  file: string
  /** Must be there exactly once. */
  find: string
  replace: string
  /** The checkers of `src/history` that must find it: at least one of them does. */
  caughtBy: readonly string[]
  workload: WorkloadName
}

export const sources = path.resolve(import.meta.dirname, '../../src')

/**
 * Returns the source with the fault.
 * @throws if the place is not there exactly once: the source has changed, and the plant must follow
 */
export function planted({ name, file, find, replace }: Plant): string {
  const source = readFileSync(path.join(sources, file), 'utf8')
  const count = source.split(find).length - 1
  if (count !== 1) throw new Error(`The plant "${name}" fits src/${file} ${count} times, not once. Change its "find".`)
  return source.replace(find, () => replace)
}
