import { readFile, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { systemClock } from '../kernel/clock.ts'

/** The last proof of an app, as its data directory remembers it. */
export interface Proved {
  /** ms since the epoch */
  at: number
  rung: string
  held: boolean
}

const fileOf = (dataDir: string) => path.join(dataDir, 'proved.json')

/** Remembers how a proof ended, where there is a data directory: the proof itself ran in a folder of its own. */
export async function noteProof(dataDir: string, proved: Omit<Proved, 'at'>): Promise<void> {
  const text = JSON.stringify({ at: systemClock.now(), ...proved })
  await writeFile(fileOf(dataDir), text, { mode: 0o600 }).catch(() => {}) // the proof counts, not its record
}

export async function lastProof(dataDir: string): Promise<Proved | undefined> {
  try {
    const { at, rung, held } = JSON.parse(await readFile(fileOf(dataDir), 'utf8')) as Partial<Proved>
    return typeof at === 'number' && typeof rung === 'string' ? { at, rung, held: held === true } : undefined
  } catch {
    return undefined
  }
}
