import { AsyncLocalStorage } from 'node:async_hooks'
import { after, freshRun, systemClock } from '../../kernel/clock.ts'
import { isRungError, RungError } from '../../kernel/errors.ts'
import { currentScope } from '../../kernel/scope.ts'
import { runAlone, withOwnConnection } from '../data/alone.ts'
import type { Connection, Database } from '../data/contract.ts'
import { sqlState } from '../data/errors.ts'
import { compile, type Sql, sql } from '../data/sql.ts'
import type { Change, IndexKey, Prepared, SearchStore } from './contract.ts'

/** Search in a database of its own, and what brings the changes there. */
export interface ApartSearch extends SearchStore {
  /** Applies every change that was committed before the call. Calls of one process share a run. */
  feed(): Promise<void>
}

export interface ApartOptions {
  /** The database of the app whose commits carry the changes. */
  core: Database
  /** The search database. */
  target: Database
  /** Search in that database. */
  documents: SearchStore
  /** Creates the tables of the search database where they are missing. */
  prepare(): Promise<unknown>
  /** How long a search waits for changes that are not applied yet. Default 2 s. */
  waitMsMax?: number
}

const batchMax = 100
/** SQLSTATEs of a database without Rung's tables: undefined table, function and schema. */
const missing = ['42P01', '42883', '3F000']

/**
 * Changes ride the commit as rows of the app's database, which are deleted when the search database has stored them. Whoever feeds takes
 * a lock in the search database, reads the rows under this lock, and applies them in the transaction that holds it. So no older state of a
 * document can follow a newer one: a process that was paused has lost its lock together with its transaction.
 *
 * A search first applies everything that was committed before it began, and so finds what its session wrote, and what all others did.
 */
export function apartSearch({ core, target, documents, prepare, waitMsMax = 2_000 }: ApartOptions): ApartSearch {
  // Runs are shared by searches, so none has the deadline of the search that began it.
  const outside = AsyncLocalStorage.snapshot()
  const look = freshRun(() => outside(() => stateOf(core)))
  const drain = freshRun(() => outside(() => prepared(() => feedAll(core, target, documents))))

  let ready: Promise<unknown> | undefined
  /** Runs the work on a search database with tables: it may be new, or may have been replaced by an empty one. */
  async function prepared<T>(work: () => Promise<T>, again = false): Promise<T> {
    ready ??= prepare().catch((error) => {
      ready = undefined // the next one tries again
      throw error
    })
    await ready
    try {
      return await work()
    } catch (error) {
      if (again || !missing.includes(sqlState(error) ?? '')) throw error
      ready = undefined
      return prepared(work, true)
    }
  }

  async function isCurrent({ last, store, confirmed }: State): Promise<boolean> {
    if (last !== null) return false
    const fed = await prepared(() => fedOf((statement) => runAlone<Fed>(target, statement), core))
    return fed !== undefined && fed.store === store && Number(fed.applied) >= Number(confirmed)
  }

  async function feed(): Promise<State> {
    const state = await look()
    if (await isCurrent(state)) return state
    await drain()
    return look()
  }

  async function catchUp({ module, name }: IndexKey): Promise<void> {
    const state = await feed()
    if (!state.incomplete.includes(`${module} ${name}`)) return
    throw new RungError(
      'SEARCH_LOST',
      `The search database does not have all documents of the index "${name}" of module "${module}". Fill it with search.rebuild.`,
    )
  }

  return {
    change(changes) {
      const rows = changes.map(({ index, id, document }) => ({ ...index, id, document: document ?? null }))
      return { statement: sql`select rung.search_submit(${JSON.stringify(rows)}::jsonb)` }
    },

    async lookUp(index, terms) {
      await within(waitMsMax, catchUp(index))
      return documents.lookUp(index, terms)
    },

    find: (query) => documents.find(query),
    highlight: (index, request) => documents.highlight(index, request),

    async rebuild(index) {
      const { store } = await feed()
      const rebuild = await documents.rebuild(index)
      return {
        ...rebuild,
        async finish() {
          await rebuild.finish()
          // Not if the search database has lost its content meanwhile.
          await runAlone(
            core,
            sql`insert into rung.search_indexed (module, name, store)
              select ${index.module}, ${index.name}, store from rung.search_feed where store = ${store}::uuid
              on conflict (module, name) do update set store = excluded.store`,
          )
        },
      }
    },

    async feed() {
      await feed()
    },
  }
}

interface State {
  /** The last change that waits. */
  last: string | null
  store: string
  confirmed: string
  /** `module name` of the indexes that must be rebuilt. */
  incomplete: string[]
}

interface Fed {
  store: string
  applied: string
}

interface PendingRow extends Omit<IndexKey, 'name'> {
  name: string
  id: string
  document: Prepared | null
  seq: string
  version: string
}

async function stateOf(core: Database): Promise<State> {
  const [state] = await runAlone<State>(core, sql`select * from rung.search_state`)
  return state!
}

async function fedOf(run: (statement: Sql) => Promise<Fed[]>, core: Database): Promise<Fed | undefined> {
  const [fed] = await run(sql`select store::text, applied from rung.search_fed where feed = ${core.name}`)
  return fed
}

/** Applies the changes that wait now, in batches, each in a transaction of the search database. */
async function feedAll(core: Database, target: Database, documents: SearchStore): Promise<void> {
  let upTo: bigint | undefined
  for (let from = 0n; upTo === undefined || from < upTo; ) {
    const done = await withOwnConnection(target, (connection) => inTransaction(connection, (run) => feedOne(run, from)))
    upTo ??= done.last
    from = done.read ?? upTo
  }

  async function feedOne(run: Run, from: bigint) {
    // A transaction whose process is paused or gone must not keep others from feeding.
    await run(sql`select set_config('idle_in_transaction_session_timeout', '5s', true)`)
    await run(sql`select pg_advisory_xact_lock(hashtextextended(${`rung.search feed ${core.name}`}, 0))`)
    let fed = await fedOf((statement) => run<Fed>(statement), core)
    const state = await stateOf(core)
    const isOther = fed === undefined || fed.store !== state.store || Number(fed.applied) < Number(state.confirmed)
    if (isOther) fed = { store: await adopted(core, state), applied: '0' }
    const rows = await runAlone<PendingRow>(
      core,
      sql`select module, name, id, language, document, seq, version from rung.search_pending
        where seq > ${from} order by seq limit ${batchMax}`,
    )
    const batch = BigInt(fed!.applied) + 1n
    const last = BigInt(state.last ?? 0)
    if (rows.length === 0 && !isOther) return { last, read: undefined, confirm: undefined }
    if (rows.length > 0) await run(documents.change(rows.map(changeOf)).statement)
    await run(sql`insert into rung.search_fed (feed, store, applied) values (${core.name}, ${fed!.store}::uuid, ${batch})
      on conflict (feed) do update set store = excluded.store, applied = excluded.applied`)
    const confirm = sql`select rung.search_confirm(${batch}, ${rows.map(({ seq }) => seq)}::bigint[], ${rows.map(({ version }) => version)}::bigint[])`
    return { last, read: rows.length === 0 ? undefined : BigInt(rows.at(-1)!.seq), confirm }
  }

  async function inTransaction(connection: Connection, work: (run: Run) => ReturnType<typeof feedOne>) {
    const run = async <Row>(statement: Sql) => (await connection.run(compile(statement))).rows as Row[]
    await run(sql`begin`)
    try {
      const done = await work(run)
      await run(sql`commit`)
      if (done.confirm) await runAlone(core, done.confirm)
      return done
    } catch (error) {
      await run(sql`rollback`).catch(() => {})
      throw error
    }
  }
}

type Run = <Row>(statement: Sql) => Promise<Row[]>

/** Returns the name of the content from now on. If the search database had confirmed something, that is lost: every index is incomplete. */
async function adopted(core: Database, { store, confirmed }: State): Promise<string> {
  if (Number(confirmed) === 0) return store
  const [row] = await runAlone<{ store: string }>(
    core,
    sql`update rung.search_feed set store = gen_random_uuid(), confirmed = 0 returning store::text`,
  )
  return row!.store
}

function changeOf({ module, name, language, id, document }: PendingRow): Change {
  return { index: { module, name, language }, id, ...(document && { document }) }
}

/** @throws SEARCH_BEHIND if the work fails for lack of a database, or takes longer */
async function within(ms: number, work: Promise<void>): Promise<void> {
  const behind = (cause?: unknown) =>
    new RungError(
      'SEARCH_BEHIND',
      'The search database has not caught up with what was written. Try again shortly.',
      cause === undefined ? {} : { cause },
    )
  const left = (currentScope()?.deadlineAt ?? Number.POSITIVE_INFINITY) - systemClock.ticks()
  const { promise: late, reject } = Promise.withResolvers<never>()
  const forget = after(Math.max(0, Math.min(ms, left)), () => reject(behind()))
  try {
    await Promise.race([work, late])
  } catch (error) {
    throw isRungError(error, 'SEARCH_LOST') || isRungError(error, 'SEARCH_BEHIND') ? error : behind(error)
  } finally {
    forget()
  }
}
