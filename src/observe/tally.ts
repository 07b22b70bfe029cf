import type { Scope } from '../kernel/scope.ts'

/** The statements that a unit of work has run so far. */
export interface Tally {
  statements: number
  statementMs: number
  /** How often each place in the code ran its statement. */
  sites: Map<unknown, number>
}

const tallies = new WeakMap<Scope, Tally>()

export function tallyOf(scope: Scope): Tally {
  let tally = tallies.get(scope)
  if (!tally) {
    tally = { statements: 0, statementMs: 0, sites: new Map() }
    tallies.set(scope, tally)
  }
  return tally
}
