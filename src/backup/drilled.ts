import { readFile, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { systemClock } from '../kernel/clock.ts'

const fileOf = (dataDir: string) => path.join(dataDir, 'drilled.json')

/** Records that a backup of this database was restored now, and that all of its tables were the same. */
export async function noteDrill(dataDir: string): Promise<void> {
  await writeFile(fileOf(dataDir), JSON.stringify({ at: systemClock.now() }), { mode: 0o600 }).catch(() => {}) // the drill counts, not its record
}

/** When that was last, ms since the epoch. */
export async function lastDrill(dataDir: string): Promise<number | undefined> {
  try {
    const { at } = JSON.parse(await readFile(fileOf(dataDir), 'utf8')) as { at: unknown }
    return typeof at === 'number' ? at : undefined
  } catch {
    return undefined
  }
}
