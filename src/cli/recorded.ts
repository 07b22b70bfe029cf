import { existsSync } from 'node:fs'
import path from 'node:path'
import { messageOf, sentence } from '../kernel/errors.ts'
import { merge } from '../observe/record/frame.ts'
import { type Recorded, recordedFrom } from '../observe/record/hours.ts'
import { readPrometheus } from '../observe/record/scraped.ts'
import { describeRecord, readRecord, type Slice } from '../observe/record/table.ts'
import { countUsage, type Usage } from '../observe/record/usage.ts'
import type { Database } from '../primitives/data/contract.ts'
import { type Deploy, listDeploys } from '../runtime/deploys.ts'
import type { Input } from './command.ts'
import { type OpenDatabase, withOpenDatabase } from './database.ts'
import { settingsOf, toolBindings } from './input-settings.ts'

const hourMs = 3_600_000
/** The record itself goes back as far. */
const historyMs = 400 * 24 * hourMs

/** Reads the record up to a time, in ms since the epoch, once for all. @returns nothing where nothing was recorded */
export async function readRecorded(
  database: Database,
  until: number,
): Promise<{ recorded: Recorded; usage: Usage } | undefined> {
  const facts = await describeRecord(database)
  if (facts === undefined || facts.from === null) return undefined
  const since = Math.max(facts.from, until - historyMs)
  return readSlices(readRecord(database, { from: since, to: until, resolutionMs: hourMs }), since, until)
}

/** The same, from a Prometheus that scrapes the app. */
async function readScraped(
  url: string,
  until: number,
): Promise<{ recorded?: Recorded; usage?: Usage; problem?: string }> {
  try {
    const slices = await readPrometheus(url, { from: until - historyMs, to: until })
    return slices.length === 0 ? {} : await readSlices(slices, slices[0]!.from, until)
  } catch (error) {
    return { problem: sentence(messageOf(error)) }
  }
}

async function readSlices(hours: AsyncIterable<Slice> | Iterable<Slice>, since: number, until: number) {
  const usage = countUsage(since, until)
  async function* slices() {
    for await (const slice of hours) {
      usage.add(slice)
      yield slice
    }
  }
  const recorded = await recordedFrom(slices(), { since, until, join: merge })
  return { recorded, usage: usage.end() }
}

/** What a database knows of the app. */
export interface Known {
  recorded?: Recorded
  usage?: Usage
  /** The newest first; none where no app was started on this database yet. */
  deploys: readonly Deploy[]
}

/**
 * Reads what the database knows, for commands that also work without it: there is none before the first start, and `problem` says why one could not
 * be read.
 */
export async function knownOf(
  input: Input,
  now: number,
  more: (open: OpenDatabase) => Promise<void> = async () => {},
): Promise<Known & { problem?: string }> {
  const { prometheus } = (await settingsOf(input)).values
  const { data, dataDir } = await toolBindings(input)
  const scraped = prometheus === undefined ? {} : await readScraped(prometheus, now)
  if (data.engine === 'embedded' && !existsSync(path.join(dataDir, 'postgres'))) {
    return { deploys: [], ...scraped }
  }
  try {
    return await withOpenDatabase(input, async (open) => {
      const read = prometheus === undefined ? await readRecorded(open.database, now) : scraped
      const deploys = read ? await listDeploys(open.connection, 20) : []
      await more(open)
      return { deploys, ...read }
    })
  } catch (error) {
    return { deploys: [], ...scraped, problem: sentence(messageOf(error)) }
  }
}
