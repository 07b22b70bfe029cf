import type { Part, Plan } from './placement.ts'
import type { Release } from './releases.ts'

/** Which release each process of the app runs. Pure. */
export interface Releases {
  /** Of every process that `of` does not name. */
  readonly present: Release
  /** Of single processes, during a deploy. */
  readonly of: ReadonlyMap<string, Release>
}

/** A new build that does not answer within this time is taken back. */
const startWithinMs = 60_000

/** Returns the plan with the releases that its processes run. Pure. */
export function withReleases(plan: Plan, appFile: string, { present, of }: Releases): Plan {
  const parts = plan.parts.map((part): Part => {
    if (part.kind !== 'app') return part
    const { build, app } = of.get(part.name) ?? present
    return {
      ...part,
      // Migrations were applied before: a start is short.
      ...(of.has(part.name) && { startWithinMs }),
      args: part.args.map((word) => (word === appFile ? app : word)),
      env: { ...part.env, RUNG_BUILD: build, RUNG_FLEET: String(process.pid) },
    }
  })
  return { ...plan, parts }
}

/** Returns the build that a part runs. */
export function buildIn(part: Part): string | undefined {
  return part.kind === 'app' ? part.env.RUNG_BUILD : undefined
}
