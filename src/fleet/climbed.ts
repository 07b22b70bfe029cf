import { readFile, rename, rm, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { isRungName } from '../topology/catalog.ts'
import type { RungName } from '../topology/topology.ts'

/** What "rung climb" has made of a fleet: the next "rung up" that is told no rung goes on from here. */
export interface Climbed {
  rung: RungName
  /** The rungs before, the last one at the end: `rung climb --undo` goes back to it. */
  before: readonly RungName[]
  /** The rung that the settings had. If they have another one since, they are right. */
  settings: RungName
}

const fileOf = (dataDir: string) => path.join(dataDir, 'climbed.json')

export async function readClimbed(dataDir: string): Promise<Climbed | undefined> {
  try {
    const { rung, before, settings } = JSON.parse(await readFile(fileOf(dataDir), 'utf8')) as Climbed
    return [rung, settings, ...before].every(isRungName) ? { rung, before, settings } : undefined
  } catch {
    return undefined
  }
}

export async function writeClimbed(dataDir: string, climbed: Climbed | undefined): Promise<void> {
  const file = fileOf(dataDir)
  if (climbed === undefined) return rm(file, { force: true })
  await writeFile(`${file}.new`, JSON.stringify(climbed), { mode: 0o600 })
  await rename(`${file}.new`, file)
}

/** After a climb from one rung to another. A fleet that is back where it was started has nothing to remember. Pure. */
export function climbedTo(
  known: Climbed | undefined,
  from: RungName,
  to: RungName,
  settings: RungName,
): Climbed | undefined {
  const ways = known?.before ?? []
  const before = ways.at(-1) === to ? ways.slice(0, -1) : [...ways, from]
  return to === settings && before.length === 0 ? undefined : { rung: to, before, settings }
}
