import { readFile, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { systemClock } from '../kernel/clock.ts'
import type { Summary } from '../load/summary.ts'

/** How the last proof of an app ended, as its data directory remembers it. */
export interface Proved {
  /** ms since the epoch */
  at: number
  rung: string
  held: boolean
  /** Whether anything was written; otherwise only pages were opened. */
  wrote: boolean
}

export async function noteProof(dataDir: string, proved: Omit<Proved, 'at'>): Promise<void> {
  await note(dataDir, 'proved.json', proved)
}

export async function lastProof(dataDir: string): Promise<Proved | undefined> {
  const { at, rung, held, wrote } = await last<Proved>(dataDir, 'proved.json')
  return typeof at === 'number' && typeof rung === 'string'
    ? { at, rung, held: held === true, wrote: wrote === true }
    : undefined
}

/** Records that a backup of this database was restored now, and that all of its tables were the same. */
export async function noteDrill(dataDir: string): Promise<void> {
  await note(dataDir, 'drilled.json', {})
}

/** When that was last, ms since the epoch. */
export async function lastDrill(dataDir: string): Promise<number | undefined> {
  const { at } = await last<{ at: number }>(dataDir, 'drilled.json')
  return typeof at === 'number' ? at : undefined
}

/** What the last load test has measured, without its course in time. */
export interface Loaded extends Omit<Summary, 'timeline'> {
  /** ms since the epoch */
  at: number
  url: string
  scenario: string
}

export async function noteLoad(
  dataDir: string,
  { timeline: _, ...loaded }: Omit<Loaded, 'at'> & Summary,
): Promise<void> {
  await note(dataDir, 'loaded.json', loaded)
}

export async function lastLoad(dataDir: string): Promise<Loaded | undefined> {
  const loaded = await last<Loaded>(dataDir, 'loaded.json')
  return loaded.at !== undefined && loaded.all && loaded.byJourney && loaded.generator ? (loaded as Loaded) : undefined
}

async function note(dataDir: string, file: string, facts: object): Promise<void> {
  const text = JSON.stringify({ at: systemClock.now(), ...facts })
  // Where there is no data directory, nothing is kept: the trial counts, not its record.
  await writeFile(path.join(dataDir, file), text, { mode: 0o600 }).catch(() => {})
}

async function last<T>(dataDir: string, file: string): Promise<Partial<T>> {
  try {
    return JSON.parse(await readFile(path.join(dataDir, file), 'utf8')) as Partial<T>
  } catch {
    return {}
  }
}
