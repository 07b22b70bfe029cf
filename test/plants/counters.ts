import type { Begun, Recorder } from '../../src/history.ts'
import { sleep } from '../../src/kernel/clock.ts'
import { isRungError } from '../../src/kernel/errors.ts'
import type { Random } from '../../src/kernel/random.ts'
import type { Database } from '../../src/primitives/data/contract.ts'
import { createData, type Data } from '../../src/primitives/data/data.ts'
import { type SqlTag, sql } from '../../src/primitives/data/sql.ts'
import { session } from '../support/cache.ts'

/** Counters as rows, which sessions count up and read on several nodes. */
export const counterTable = 'create table counter (name text primary key, n int not null)'

export interface Counting {
  recorder: Recorder
  random: Random
  /** Of each node. */
  datas: readonly Data[]
  names: readonly string[]
  /** Of each read. */
  staleMsMax?: number
  /** The primary is lost meanwhile. */
  losesPrimary?: boolean
}

export const datasOf = (nodes: readonly Database[]) => nodes.map((node) => createData(node).forModule('counters'))

type Does = 'write' | 'read' | 'fresh read'

/** Returns what one session does next: it counts up, reads, or reads on the primary, each time on any node. */
export function counter(name: string, counting: Counting): (does?: Does) => Promise<void> {
  const { recorder, random, datas, names, staleMsMax, losesPrimary = false } = counting
  const who = session()
  const pick = <T>(from: readonly T[]) => from[Math.floor(random() * from.length)]!
  return async (asked) => {
    const [key, data, chance] = [pick(names), pick(datas), random()]
    const does = asked ?? (chance < 0.2 ? 'write' : chance < 0.3 ? 'fresh read' : 'read')
    const running = recorder.begin({
      kind: does === 'write' ? 'write' : 'read',
      session: name,
      key,
      ...(does === 'fresh read' && { fresh: true }),
      ...(does === 'read' && staleMsMax && { staleMsMax }),
    })
    try {
      const [row] = await who(async () =>
        does === 'read'
          ? data.read((sql) => read(sql, key))
          : data.write((tx) => (does === 'write' ? countUp(tx, key) : look(tx, key))),
      )
      end(running, row)
    } catch (error) {
      if (!losesPrimary || !isRungError(error)) throw error
      if (error.code === 'DATA_OUTCOME_UNKNOWN') running.info(error)
      else running.fail(error)
    }
    await sleep(random() * 10)
  }
}

interface Row {
  n: number
  /** The primary. */
  node?: string
  /** Its timeline. */
  token?: number
}

/** No row: nobody has written so far. */
function end(running: Begun, { n, ...where }: Row = { n: 0 }): void {
  running.ok(n === 0 ? { value: null as never, ...where } : { version: n, ...where })
}

const where = sql`substring(current_setting('data_directory') from 'postgres(?:-[0-9]+)?') as node,
  ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::int as token`
const read = (tag: SqlTag, name: string) => tag<Row>`select n from counter where name = ${name}`
const look = (tag: SqlTag, name: string) => tag<Row>`select n, ${where} from counter where name = ${name}`
const countUp = (tag: SqlTag, name: string) =>
  tag<Row>`insert into counter values (${name}, 1) on conflict (name) do update set n = counter.n + 1 returning n, ${where}`
