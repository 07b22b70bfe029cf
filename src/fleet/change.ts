import type { Topology } from '../topology/topology.ts'
import type { CommandPart, Part, Plan } from './placement.ts'

/** A plan, and what it is a plan of. */
export interface Planned {
  readonly plan: Plan
  readonly topology: Topology
}

/** What turns a running plan into another one. Parts that run on unchanged are in none of these lists. */
export interface Change {
  readonly added: readonly Part[]
  readonly removed: readonly Part[]
  /** Processes of the app that must be restarted, because they find something elsewhere than before. */
  readonly rolled: readonly CommandPart[]
}

/** Variables that say how many parts there are. No process needs a restart for them. */
const counts = new Set(['RUNG_WEB', 'RUNG_WORKER', 'RUNG_REPLICAS'])

/** Pure. Added parts are in the order in which they start, removed ones in the order in which they stop. */
export function changeOf(now: Plan, next: Plan): Change {
  const missingIn = (plan: Plan) => (part: Part) => !plan.parts.some(({ name }) => name === part.name)
  return {
    added: next.parts.filter(missingIn(now)).sort((a, b) => a.startWave - b.startWave),
    removed: now.parts.filter(missingIn(next)).sort((a, b) => b.stopWave - a.stopWave),
    rolled: next.parts.filter((part): part is CommandPart => {
      const before = now.parts.find(({ name }) => name === part.name)
      return part.kind === 'app' && before?.kind === 'app' && !sameEnvironment(before.env, part.env)
    }),
  }
}

function sameEnvironment(a: CommandPart['env'], b: CommandPart['env']): boolean {
  const names = new Set([...Object.keys(a), ...Object.keys(b)])
  return [...names].every((name) => counts.has(name) || a[name] === b[name])
}
