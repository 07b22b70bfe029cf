import { existsSync } from 'node:fs'
import path from 'node:path'
import { messageOf, sentence } from '../kernel/errors.ts'
import { type Recorded, recordedFrom } from '../observe/record/hours.ts'
import { readPrometheus } from '../observe/record/scraped.ts'
import { describeRecord, readRecord } from '../observe/record/table.ts'
import type { Database } from '../primitives/data/contract.ts'
import { type Deploy, listDeploys } from '../runtime/deploys.ts'
import type { Input } from './command.ts'
import { type OpenDatabase, withOpenDatabase } from './database.ts'
import { settingsOf, toolBindings } from './input-settings.ts'

const hourMs = 3_600_000
/** The record itself goes back as far. */
const historyMs = 400 * 24 * hourMs

/** Reads the record up to a time, in ms since the epoch, once for all. @returns nothing where nothing was recorded */
export async function readRecorded(database: Database, until: number): Promise<Recorded | undefined> {
  const facts = await describeRecord(database)
  if (facts === undefined || facts.from === null) return undefined
  const since = Math.max(facts.from, until - historyMs)
  return recordedFrom(readRecord(database, { from: since, to: until, resolutionMs: hourMs }), { since, until })
}

/** The same, from a Prometheus that scrapes the app. */
async function readScraped(url: string, until: number): Promise<Recorded | undefined> {
  const slices = await readPrometheus(url, { from: until - historyMs, to: until })
  return slices.length === 0 ? undefined : recordedFrom(slices, { since: slices[0]!.from, until })
}

/** What is known of the app. Each source counts also where another one cannot be read. */
export interface Known {
  recorded?: Recorded | undefined
  /** Why the record, or the Prometheus that is read instead, could not be read. */
  recordProblem?: string | undefined
  /** The newest first; none where no app was started on this database yet. */
  deploys: readonly Deploy[]
  /** Why the database could not be read. */
  databaseProblem?: string | undefined
}

/** Reads what is known of the app, for commands that also work without a database: there is none before the first start. */
export async function knownOf(
  input: Input,
  now: number,
  more: (open: OpenDatabase) => Promise<void> = async () => {},
): Promise<Known> {
  const { prometheus } = (await settingsOf(input)).values
  const { data, dataDir } = await toolBindings(input)
  const known: Known = { deploys: [] }
  const record = async (read: () => Promise<Recorded | undefined>) => {
    known.recordProblem = await problemOf(async () => {
      known.recorded = await read()
    })
  }
  if (prometheus !== undefined) await record(() => readScraped(prometheus, now))
  if (data.engine === 'embedded' && !existsSync(path.join(dataDir, 'postgres'))) return known
  let isOpen = false
  const opening = await problemOf(() =>
    withOpenDatabase(input, async (open) => {
      isOpen = true
      if (prometheus === undefined) await record(() => readRecorded(open.database, now))
      const listing = await problemOf(async () => {
        known.deploys = await listDeploys(open.connection, 20)
      })
      known.databaseProblem = (await problemOf(() => more(open))) ?? listing
    }),
  )
  known.databaseProblem ??= opening
  if (prometheus === undefined && !isOpen) known.recordProblem = opening
  return known
}

async function problemOf(work: () => Promise<void>): Promise<string | undefined> {
  try {
    await work()
    return undefined
  } catch (error) {
    return sentence(messageOf(error))
  }
}

/** Returns what could not be read, as sentences. */
export function problemsOf({ recordProblem, databaseProblem }: Omit<Known, 'recorded' | 'deploys'>): string[] {
  return [
    ...(recordProblem === undefined ? [] : [`The record could not be read, so it does not count: ${recordProblem}`]),
    ...(databaseProblem === undefined
      ? []
      : [`The database could not be read, so deploys and incidents are missing: ${databaseProblem}`]),
  ]
}
