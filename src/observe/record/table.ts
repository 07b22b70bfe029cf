import { runAlone, withOwnConnection } from '../../primitives/data/alone.ts'
import type { Database } from '../../primitives/data/contract.ts'
import { compile, type Sql, sql } from '../../primitives/data/sql.ts'
import { type Frame, merge, pack, unpack } from './frame.ts'

/** Frames of one process as they are kept. */
export interface Row {
  node: string
  /** The begin of the first, and the end of the last. */
  from: number
  to: number
  content: Buffer
}

const minuteMs = 60_000
const dayMs = 86_400_000
/**
 * From the finest on: for how long rows are kept before those of the next one replace them, and the time that a row is for. Frames in one row are
 * compressed together, and what they have in common (names, labels, texts of statements) costs nearly nothing but in the first.
 */
const resolutions = [
  { seconds: 60, rowMs: minuteMs, keptMs: 2 * dayMs },
  { seconds: 600, rowMs: 60 * minuteMs, keptMs: 14 * dayMs },
  { seconds: 3_600, rowMs: dayMs, keptMs: 400 * dayMs },
] as const
type Resolution = (typeof resolutions)[number]
/** Rows are put together in so many steps at a time, so that a minute's work stays short after a long pause. */
const mergesMax = 100

/**
 * Writes a row of one frame. One that was written before, without an answer, is not written again. Another one of the same time, which the wall
 * clock had before it was set back, stands beside it.
 */
export async function addFrame(database: Database, row: Row): Promise<void> {
  const [finest] = resolutions
  const added = await runAlone(database, sql`${insertion(finest, row)} on conflict do nothing returning node`)
  if (added.length > 0) return
  const others = await runAlone(
    database,
    sql`select node from rung.frame
      where seconds = ${finest.seconds} and started_at = ${new Date(row.from)} and node = ${row.node} and content <> ${row.content}`,
  )
  if (others.length > 0) await addFrame(database, { ...row, from: row.from + 1 })
}

function insertion({ seconds }: Resolution, { node, from, to, content }: Row): Sql {
  return sql`insert into rung.frame (seconds, started_at, node, ended_at, content)
    values (${seconds}, ${new Date(from)}, ${node}, ${new Date(to)}, ${content})`
}

/**
 * Puts frames together that are old enough for a coarser resolution, and removes the oldest. Any number of processes may do this at once, and any
 * may die: each step takes what it counts out of the table, in one transaction with the row that it puts there.
 */
export async function mergeOld(database: Database, now: number): Promise<void> {
  for (const [index, fine] of resolutions.entries()) {
    const coarse = resolutions[index + 1]
    if (!coarse) {
      const until = new Date(now - fine.keptMs)
      await runAlone(database, sql`delete from rung.frame where seconds = ${fine.seconds} and started_at < ${until}`)
      continue
    }
    const until = new Date(floor(now - fine.keptMs, coarse.rowMs))
    const due = await runAlone<{ node: string; begin: Date }>(
      database,
      sql`select distinct node, date_bin(${`${coarse.rowMs} ms`}::interval, started_at, 'epoch') as begin from rung.frame
        where seconds = ${fine.seconds} and started_at < ${until} limit ${mergesMax}`,
    )
    for (const { node, begin } of due) await mergeRows(database, node, begin, fine, coarse)
  }
}

async function mergeRows(
  database: Database,
  node: string,
  begin: Date,
  fine: Resolution,
  coarse: Resolution,
): Promise<void> {
  await withOwnConnection(database, async (connection) => {
    const end = new Date(begin.getTime() + coarse.rowMs)
    // A row that came late joins the one that the others became.
    const take = sql`delete from rung.frame
      where seconds in (${fine.seconds}, ${coarse.seconds}) and started_at >= ${begin} and started_at < ${end} and node = ${node}
      returning node, content`
    const [, taken] = await Promise.all(connection.runTogether([compile(sql`begin`), compile(take)]))
    const frames = sliced(framesOf(taken!.rows as unknown as Kept[]), coarse.seconds * 1000).flatMap(
      (slice) => slice.frames,
    )
    if (frames.length > 0) {
      const [from, to] = [frames[0]!.from, Math.max(...frames.map((frame) => frame.to))]
      await connection.run(compile(insertion(coarse, { node, from, to, content: pack(frames) })))
    }
    await connection.run(compile(sql`commit`)) // a connection that is given back without it is closed, and nothing has happened
  })
}

/** What was recorded from a time on, until another, as one frame for each process. */
export interface Slice {
  from: number
  to: number
  frames: readonly Frame[]
}

export interface Window {
  /** Frames that begin at this time or later, in ms since the epoch. */
  from: number
  /** Frames that begin before it. */
  to: number
  /** From a minute on. What is older is coarser: see `Frame.from` and `to`. */
  resolutionMs: number
}

/**
 * Reads what was recorded, the oldest first, a day or a step of the resolution at a time. A slice in which nothing was recorded is left out.
 * @example
 * for await (const { from, frames } of readRecord(database, { from: now - 3_600_000, to: now, resolutionMs: 60_000 })) …
 */
export async function* readRecord(
  database: Database,
  { from, to, resolutionMs }: Window,
): AsyncGenerator<Slice, void, undefined> {
  const stepMs = Math.max(resolutionMs, floor(dayMs, resolutionMs))
  for (let at = floor(from, resolutionMs); at < to; at += stepMs) {
    const [begin, end] = [Math.max(at, from), Math.min(at + stepMs, to)]
    const rows = await runAlone<Kept>(
      database,
      sql`select node, content from rung.frame
        where seconds = any(${resolutions.map(({ seconds }) => seconds)}::int[])
          and started_at > ${new Date(begin - dayMs)} and started_at < ${new Date(end)} and ended_at > ${new Date(begin)}`,
    )
    const frames = framesOf(rows)
    yield* sliced(
      frames.filter((frame) => frame.from >= begin && frame.from < end),
      resolutionMs,
    )
  }
}

function framesOf(rows: readonly Kept[]): Frame[] {
  return rows.flatMap(({ node, content }) => unpack(node, content))
}

/** One frame for each process in each slice of time, the oldest first. */
function sliced(frames: readonly Frame[], sliceMs: number): Slice[] {
  const slices = Map.groupBy(frames, ({ from }) => floor(from, sliceMs))
  return [...slices]
    .map(([from, some]) => ({
      from,
      to: from + sliceMs,
      frames: [...Map.groupBy(some, ({ node }) => node).values()].map(merge),
    }))
    .sort((a, b) => a.from - b.from)
}

function floor(time: number, ms: number): number {
  return Math.floor(time / ms) * ms
}

/** What there is of the record. */
export interface RecordFacts {
  /** The begin of the oldest frame and the end of the newest, in ms since the epoch; `null` if there is none. */
  from: number | null
  to: number | null
  /** With indexes and what is no longer used. */
  bytes: number
  /** By resolution: a row has up to a minute, an hour and a day. */
  rows: { seconds: number; rows: number; bytes: number }[]
  /** Times of two minutes and more in which no process recorded anything, the newest first. */
  gaps: { from: number; to: number }[]
}

const gapsMax = 100

/** @returns nothing where no app with a record has used the database */
export async function describeRecord(database: Database): Promise<RecordFacts | undefined> {
  const [size] = await runAlone<{ bytes: string | null }>(
    database,
    sql`select pg_total_relation_size(to_regclass('rung.frame')) as bytes`,
  )
  if (size!.bytes === null) return undefined
  const rows = await runAlone<{ seconds: number; rows: number; bytes: number; from: Date; to: Date }>(
    database,
    sql`select seconds, count(*)::int as rows, sum(octet_length(content))::float8 as bytes,
        min(started_at) as "from", max(ended_at) as "to"
      from rung.frame group by seconds order by seconds`,
  )
  const gaps = await runAlone<{ from: Date; to: Date }>(
    database,
    sql`with recorded as (
        select unnest(range_agg(tstzrange(started_at, ended_at + ${`${2 * minuteMs} ms`}::interval))) as at from rung.frame
      ), gap as (
        select upper(at) - ${`${2 * minuteMs} ms`}::interval as "from", lead(lower(at)) over (order by at) as "to" from recorded
      )
      select * from gap where "to" is not null order by "from" desc limit ${gapsMax}`,
  )
  const times = (of: readonly Date[]) => of.map((time) => time.getTime())
  return {
    from: rows.length === 0 ? null : Math.min(...times(rows.map(({ from }) => from))),
    to: rows.length === 0 ? null : Math.max(...times(rows.map(({ to }) => to))),
    bytes: Number(size!.bytes),
    rows: rows.map(({ seconds, rows, bytes }) => ({ seconds, rows, bytes })),
    gaps: gaps.map(({ from, to }) => ({ from: from.getTime(), to: to.getTime() })),
  }
}

interface Kept {
  node: string
  content: Buffer
}
