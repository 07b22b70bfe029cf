import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { type Client, type ConnectionConfig, connectOnce } from '../engines/postgres/client.ts'
import { appDatabase } from '../engines/postgres/recipe.ts'
import { sleep } from '../kernel/clock.ts'
import { messageOf, RungError } from '../kernel/errors.ts'
import { type Lsn, parseLsn } from '../kernel/position.ts'
import { backoffMs, uuid } from '../kernel/random.ts'
import type { Target } from './recover.ts'
import { restore } from './restore.ts'
import { type Selection, selectBackup } from './select.ts'

/** A table in the live and in the restored database. */
export interface Comparison {
  table: string
  live: Digest | undefined
  restored: Digest | undefined
  equal: boolean
}

export interface Digest {
  rows: number
  /** Hash of all rows, whatever their order. */
  hash: string
}

export interface DrillOptions extends Omit<Selection, 'time'> {
  onProgress?: (text: string) => void
  /** The live database to compare with. */
  live?: {
    connection: ConnectionConfig
    /** Waits until the log is archived up to there. */
    archived(lsn: Lsn): Promise<void>
  }
}

export interface Drilled {
  base: string
  /** Without a live database `live` is undefined, and each is equal. */
  tables: Comparison[]
  /** Time of the last transaction in the restored database, ms since the epoch. */
  lastTransactionAt: number | undefined
}

/**
 * Restores to a temporary folder and reads each row of each table. Beside a live database it restores to one exact point in its log, and compares
 * every table with its content at that point.
 * @throws BACKUP_NOT_FOUND, BACKUP_FAILED, BACKUP_DAMAGED, RESTORE_FAILED
 */
export async function drill(options: DrillOptions): Promise<Drilled> {
  const { place, live: original, onProgress } = options
  const live = original && (await connectOnce(original.connection))
  const folder = await mkdtemp(path.join(tmpdir(), 'rung-drill-'))
  try {
    let here: Map<string, Digest> | undefined
    let target: Target = { kind: 'end' }
    if (live) {
      const point = await holdStill(live, original.connection)
      onProgress?.('reading the live tables')
      here = await digests(live)
      await live.query('commit')
      await original.archived(point.lsn)
      target = { kind: 'point', name: point.name }
    }
    const { catalogue, window } = await selectBackup({ ...options, time: 'latest' })
    let there = new Map<string, Digest>()
    const { lastTransactionAt } = await restore({
      place,
      catalogue,
      window,
      target,
      into: path.join(folder, 'data'),
      isolated: true,
      onProgress: (stage, done, total) => {
        if (stage === 'copy' && done === 0) onProgress?.(`restoring ${window.base.id}`)
        if (stage === 'log' && done === total) onProgress?.('replaying the log')
      },
      async look(connection) {
        onProgress?.('reading the restored tables')
        const restored = await connectOnce({ ...connection, database: appDatabase })
        there = await digests(restored).finally(() => restored.end())
      },
    })
    const alone = () => [...there].map(([table, restored]) => ({ table, live: undefined, restored, equal: true }))
    return { base: window.base.id, tables: here ? compare(here, there) : alone(), lastTransactionAt }
  } finally {
    await live?.end().catch(() => {})
    await rm(folder, { recursive: true, force: true })
  }
}

function compare(live: ReadonlyMap<string, Digest>, restored: ReadonlyMap<string, Digest>): Comparison[] {
  return [...new Set([...live.keys(), ...restored.keys()])].sort().map((table) => {
    const [a, b] = [live.get(table), restored.get(table)]
    return { table, live: a, restored: b, equal: a !== undefined && a.rows === b?.rows && a.hash === b.hash }
  })
}

/** Each step of an attempt makes writers wait for at most this long. */
const lockMsMax = 200
const triesMax = 50

/**
 * Creates a named point in the log, and on `reader` a snapshot of exactly that point. Between the two no table of the app may
 * change: for some milliseconds all are locked against writers. In a deadlock this session gives way.
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
            `The tables could not be locked against writers (${messageOf(error)}). Run the drill when no long transaction is open.`,
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

/** Returns the tables of the app, quoted. Unlogged tables are left out: a recovery empties them, like a crash. */
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
