import type { ConnectionConfig } from '../engines/postgres/client.ts'
import { isRungError } from '../kernel/errors.ts'
import { type Frame, merge } from '../observe/record/frame.ts'
import { type Hour, hourOf } from '../observe/record/hours.ts'
import { type DayPeak, dayPeaks } from '../observe/record/summary.ts'
import { describeRecord, readRecord } from '../observe/record/table.ts'
import type { Database } from '../primitives/data/contract.ts'
import { type Deploy, listDeploys } from '../runtime/deploys.ts'
import type { Input } from './command.ts'
import { withOpenDatabase } from './database.ts'

const hourMs = 3_600_000
const weekMs = 7 * 24 * hourMs
/** The record itself goes back as far. */
const historyMs = 400 * 24 * hourMs

/** The record as commands judge it. */
export interface Recorded {
  /** When the oldest frame begins, in ms since the epoch. */
  since: number
  /** In which something was recorded, the oldest first. */
  hours: readonly Hour[]
  /** Of whole days. */
  peaks: readonly DayPeak[]
  /** Of the last seven days, one for each process. */
  frames: readonly Frame[]
}

/** Reads the record up to a time, in ms since the epoch. @returns nothing where nothing was recorded */
export async function readRecorded(database: Database, now: number): Promise<Recorded | undefined> {
  const facts = await describeRecord(database)
  if (facts === undefined || facts.from === null) return undefined
  const since = Math.max(facts.from, now - historyMs)
  const hours: Hour[] = []
  const frames = new Map<string, Frame>()
  for await (const slice of readRecord(database, { from: since, to: now, resolutionMs: hourMs })) {
    hours.push(hourOf(slice))
    if (slice.from < now - weekMs) continue
    for (const frame of slice.frames) {
      const known = frames.get(frame.node)
      frames.set(frame.node, known ? merge([known, frame]) : frame)
    }
  }
  return { since, hours, peaks: dayPeaks(hours, since, now), frames: [...frames.values()] }
}

/** Like `readRecorded`, with the deploys; nothing where there is no database yet. */
export async function recordedOf(
  input: Input,
  now: number,
): Promise<{ recorded: Recorded | undefined; deploys: Deploy[] } | undefined> {
  try {
    return await withOpenDatabase(input, async ({ database, connection }) => ({
      recorded: await readRecorded(database, now),
      deploys: await deploysOn(connection),
    }))
  } catch (error) {
    if (isRungError(error) && error.code === 'CONFIG_INVALID') return undefined
    throw error
  }
}

/** None where no app was started on this database yet. */
async function deploysOn(connection: ConnectionConfig): Promise<Deploy[]> {
  return listDeploys(connection, 20).catch((error) => {
    if (isRungError(error) && error.code === 'DATA_UNAVAILABLE') return []
    throw error
  })
}
