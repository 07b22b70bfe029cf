import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { type Client, type ConnectionConfig, connectOnce } from '../engines/postgres/client.ts'
import { appDatabase } from '../engines/postgres/recipe.ts'
import { sleep } from '../kernel/clock.ts'
import { messageOf, RungError } from '../kernel/errors.ts'
import { type Lsn, parseLsn } from '../kernel/position.ts'
import { backoffMs, uuid } from '../kernel/random.ts'
import type { Catalogue } from './catalogue.ts'
import { choose, currentTimeline, windows } from './policy.ts'
import { restore } from './restore.ts'

/** One table, live and restored. */
export interface Comparison {
  table: string
  live: Digest | undefined
  restored: Digest | undefined
  equal: boolean
}

export interface Digest {
  rows: number
  /** Of all rows, in whatever order they lie. */
  hash: string
}

export interface DrillOptions {
  connection: ConnectionConfig
  /** Waits until the log is archived up to there. */
  archived(lsn: Lsn): Promise<void>
  readCatalogue(): Promise<Catalogue>
  onProgress?: (text: string) => void
}

/** Restores beside the live database, to one very point in its log, and compares every table with what it held at that point. */
export async function drill(options: DrillOptions): Promise<{ base: string; tables: Comparison[] }> {
  const live = await connectOnce(options.connection)
  const folder = await mkdtemp(path.join(tmpdir(), 'rung-drill-'))
  try {
    const point = await holdStill(live, options.connection)
    options.onProgress?.('reading the live tables')
    const here = await digests(live)
    await live.query('commit')
    await options.archived(point.lsn)
    const catalogue = await options.readCatalogue()
    const timeline = currentTimeline(catalogue)
    const window = timeline && choose(windows(catalogue, timeline), 'latest')
    if (!window) {
      throw new RungError(
        'BACKUP_NOT_FOUND',
        `${catalogue.folder} holds no base backup to restore. Make one: rung backup`,
      )
    }
    let there = new Map<string, Digest>()
    await restore({
      catalogue,
      window,
      target: { kind: 'point', name: point.name },
      into: path.join(folder, 'data'),
      lasting: false,
      onProgress: (stage, done, total) => {
        if (stage === 'copy' && done === 0) options.onProgress?.(`restoring ${window.base.id}`)
        if (stage === 'log' && done === total) options.onProgress?.('replaying the log')
      },
      async look(connection) {
        options.onProgress?.('reading the restored tables')
        const restored = await connectOnce({ ...connection, database: appDatabase })
        there = await digests(restored).finally(() => restored.end())
      },
    })
    return { base: window.base.id, tables: compare(here, there) }
  } finally {
    await live.end().catch(() => {})
    await rm(folder, { recursive: true, force: true })
  }
}

export function compare(live: ReadonlyMap<string, Digest>, restored: ReadonlyMap<string, Digest>): Comparison[] {
  return [...new Set([...live.keys(), ...restored.keys()])].sort().map((table) => {
    const [a, b] = [live.get(table), restored.get(table)]
    return { table, live: a, restored: b, equal: a !== undefined && a.rows === b?.rows && a.hash === b.hash }
  })
}

/** Each step of a try holds up writers for at most that long. */
const lockMsMax = 200
const triesMax = 50

/**
 * A named point in the log, and on `reader` a snapshot of exactly that point. Between the two no table of the app may change: for some
 * milliseconds all are locked against writers. In any deadlock this session is the one that gives way.
 */
async function holdStill(reader: Client, connection: ConnectionConfig): Promise<{ name: string; lsn: Lsn }> {
  const holder = await connectOnce(connection)
  const name = `rung drill ${uuid()}`
  try {
    await holder.query(`set statement_timeout = '${lockMsMax}ms'; set deadlock_timeout = '10ms'`)
    for (let attempt = 0; ; attempt += 1) {
      try {
        await holder.query('begin isolation level repeatable read')
        const tables = await tablesOf(holder)
        await holder.query('commit; begin isolation level repeatable read')
        if (tables.length > 0) await holder.query(`lock table ${tables.join(', ')} in share mode`)
        const { rows } = await holder.query(
          'select pg_create_restore_point($1)::text as lsn, pg_export_snapshot() as snapshot',
          [name],
        )
        await reader.query('begin isolation level repeatable read read only')
        await reader.query(`set transaction snapshot '${rows[0].snapshot}'`)
        await holder.query('commit')
        return { name, lsn: parseLsn(rows[0].lsn)! }
      } catch (error) {
        await holder.query('rollback')
        const { code } = error as { code?: string }
        const collided = code === '57014' || code === '40P01' || code === '42P01' // too long, a deadlock, a table gone
        if (!collided) throw error
        if (attempt === triesMax) {
          throw new RungError(
            'BACKUP_FAILED',
            `No moment was found in which nobody writes for long (${messageOf(error)}). Run the drill when no long transaction is open.`,
            { cause: error },
          )
        }
        await sleep(20 + backoffMs(attempt, 20, 500))
      }
    }
  } finally {
    await holder.end()
  }
}

/** Tables of the app, quoted. What is not logged is empty after a recovery, as it would be after a crash. */
async function tablesOf(sql: Client): Promise<string[]> {
  const { rows } = await sql.query(
    `select format('%I.%I', n.nspname, c.relname) as name from pg_class c join pg_namespace n on n.oid = c.relnamespace
      where c.relkind = 'r' and c.relpersistence = 'p' and n.nspname !~ '^pg_' and n.nspname <> 'information_schema'
      order by 1`,
  )
  return rows.map(({ name }) => name)
}

async function digests(sql: Client): Promise<Map<string, Digest>> {
  const found = new Map<string, Digest>()
  for (const table of await tablesOf(sql)) {
    const { rows } = await sql.query(
      `select count(*)::float8 as rows, coalesce(sum(hashtextextended(t::text, 0)), 0)::text as hash from only ${table} t`,
    )
    found.set(table, rows[0])
  }
  return found
}
