import { open, readFile } from 'node:fs/promises'
import path from 'node:path'
import { type Lsn, parseLsn } from '../kernel/position.ts'
import { historyName } from './layout.ts'

/** Which database a data directory holds, and the timelines that led to it, oldest first, its own last. */
export interface History {
  system: string
  timelines: number[]
}

/**
 * Read from the files of Postgres, so also where no server runs; nothing where there is no database. The control file begins with
 * the system identifier (8 bytes), and has the timeline of the last checkpoint at byte 48 (since Postgres 9.3).
 */
export async function historyOf(postgresDir: string): Promise<History | undefined> {
  const file = await open(path.join(postgresDir, 'global', 'pg_control')).catch(() => undefined)
  if (!file) return undefined
  const control = Buffer.alloc(52)
  const { bytesRead } = await file.read(control, 0, control.length, 0).finally(() => file.close())
  if (bytesRead < control.length) return undefined
  const timeline = control.readUInt32LE(48)
  const text = await readFile(path.join(postgresDir, 'pg_wal', historyName(timeline)), 'utf8').catch(() => '')
  const ancestors = parseHistory(text).map((one) => one.timeline)
  return { system: String(control.readBigUInt64LE(0)), timelines: [...ancestors, timeline] }
}

/** Lines of a history file: timeline, where it was left, why. */
export function parseHistory(text: string): { timeline: number; end: Lsn }[] {
  return text.split('\n').flatMap((line) => {
    const [, id, lsn] = /^(\d+)\s+([0-9A-F]+\/[0-9A-F]+)/.exec(line) ?? []
    return id && lsn ? [{ timeline: Number(id), end: parseLsn(lsn)! }] : []
  })
}
