import type { Group, Topology } from '../topology/topology.ts'
import type { Counts } from './control.ts'
import type { Part } from './placement.ts'

export function countsOf({ processes, groups, data }: Topology): Counts {
  const inGroups = groups.flatMap(({ name, web, worker }) => [
    ...(web > 0 ? [[`${name}-web`, web] as const] : []),
    ...(worker > 0 ? [[`${name}-worker`, worker] as const] : []),
  ])
  return { web: processes.web, worker: processes.worker, ...Object.fromEntries(inGroups), replicas: data.replicas }
}

/** Returns groups as the setting has them. Pure. */
export function nodesOf(
  groups: readonly Group[],
): Record<string, { modules: readonly string[]; web: number; worker: number }> {
  return Object.fromEntries(groups.map(({ name, ...group }) => [name, group]))
}

/** Returns the groups with other numbers of processes, which are named after both: `media-web`. Pure. */
export function withCounts(groups: readonly Group[], counts: Readonly<Record<string, number>>): Group[] {
  return groups.map((group) => ({
    ...group,
    web: counts[`${group.name}-web`] ?? group.web,
    worker: counts[`${group.name}-worker`] ?? group.worker,
  }))
}

/** Returns the numbers of processes with a second one beside each of these parts that answers alone. Pure. */
export function sparesFor(counts: Counts, parts: readonly Part[]): [name: string, count: number][] {
  const answering = parts.filter((one) => one.kind === 'app' && one.role === 'web')
  const names = new Set(answering.map(({ name }) => name.replace(/-\d+$/, '')))
  return [...names].filter((name) => counts[name] === 1).map((name) => [name, 2])
}
