import { open, readFile } from 'node:fs/promises'
import path from 'node:path'
import { type Lsn, parseLsn } from '../kernel/position.ts'
import { historyName } from './layout.ts'

/** The database of a data directory, and its timelines: oldest first, the current one last. */
export interface History {
  system: string
  timelines: number[]
}

/**
 * Reads the files of Postgres, so that no server need run; returns undefined if there is no database. The control file begins
 * with the system identifier (8 bytes), and has the timeline of the last checkpoint at byte 48 (since Postgres 9.3).
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

/** A timeline, and where it was left for the next one. */
export interface Left {
  timeline: number
  end: Lsn
}

/** Parses a history file; its lines say which timeline was left, where, and why. */
export function parseHistory(text: string): Left[] {
  return text.split('\n').flatMap((line) => {
    const [, id, lsn] = /^(\d+)\s+([0-9A-F]+\/[0-9A-F]+)/.exec(line) ?? []
    return id && lsn ? [{ timeline: Number(id), end: parseLsn(lsn)! }] : []
  })
}
