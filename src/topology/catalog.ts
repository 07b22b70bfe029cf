import { rung1k } from './rungs/1k.ts'
import { rung10k } from './rungs/10k.ts'
import { rung100k } from './rungs/100k.ts'
import { rung500k } from './rungs/500k.ts'
import type { RungName, Topology } from './topology.ts'

export const rungs: Readonly<Record<RungName, Topology>> = {
  '1k': rung1k,
  '10k': rung10k,
  '100k': rung100k,
  '500k': rung500k,
}
export const rungNames = Object.keys(rungs) as RungName[]

/** Returns the next higher rung; the highest has none. */
export function rungAfter(rung: RungName): RungName | undefined {
  return rungNames[rungNames.indexOf(rung) + 1]
}

export function isRungName(text: string): text is RungName {
  return rungNames.some((name) => name === text)
}
