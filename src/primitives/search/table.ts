import { isRungError, RungError } from '../../kernel/errors.ts'
import { currentScope } from '../../kernel/scope.ts'
import { ownDeadline, runAlone } from '../data/alone.ts'
import { cancelWithScope } from '../data/cancel.ts'
import type { Database } from '../data/contract.ts'
import { toRead } from '../data/data.ts'
import { sqlState } from '../data/errors.ts'
import { noteSeen } from '../data/place.ts'
import { compile, type Sql, sql } from '../data/sql.ts'
import {
  type Change,
  GenerationDropped,
  type IndexKey,
  type LookedUp,
  type Rebuild,
  type SearchStore,
  type Term,
} from './contract.ts'
import { alignedForm } from './form.ts'
import { pieceOf } from './highlight.ts'

/** SQLSTATEs: raised by `schema.sql`, and `undefined_table`. */
const rebuildLost = 'RG002'
const tableGone = '42P01'

/** Full-text search in the app's own Postgres: indexing rides the commit because it is the same commit. */
export function tableSearch(database: Database): SearchStore {
  return {
    change(changes) {
      return { statement: sql`select rung.search_change(${JSON.stringify(groupsOf(changes))}::jsonb)` }
    },

    async lookUp({ module, name, language }, given): Promise<LookedUp> {
      const rows = await read<TermRow>(
        database,
        sql`
        select * from rung.search_look_up(${module}, ${name}, ${language}::regconfig, ${given.map(({ text }) => text)}::text[],
          ${given.map(({ kind }) => kind)}::text[])`,
      )
      const [first] = rows
      return {
        generation: first?.generation,
        typos: first?.typos ?? true,
        // The estimate is -1 until the table is analysed.
        documents: first && first.documents > 0 ? first.documents : Math.max(0, ...rows.map(({ docs }) => docs)),
        terms: rows.map(({ query, ranking, docs, strong, suggestions }, at) => ({
          query,
          ranking: beginningRanking(given[at]!, query, suggestions) ?? (ranking || undefined),
          docs,
          strong,
          suggestions: suggestions.map(({ word, stem, docs: of }) => ({ word, query: quoted(stem), docs: of })),
        })),
      }
    },

    async find({
      generation,
      query,
      ranking,
      filters,
      facets,
      thinning,
      thinningStrong,
      candidatesMax,
      limit,
      offset,
    }) {
      const [row] = await read<{ found: MatchesRow }>(
        database,
        sql`
        select rung.search_find(${generation}, ${query}::tsquery, ${ranking}::tsquery, ${JSON.stringify(filters)}::jsonb,
          ${facets}::text[], ${thinning}, ${thinningStrong}, ${candidatesMax}, ${limit}, ${offset}) as found`,
      )
      const { total, hits, facets: counts } = row!.found
      const more = thinning > 0 || total > candidatesMax
      return { hits, total: Math.min(total, candidatesMax), more, facets: counts }
    },

    async highlight({ language }, { generation, query, ids, fields }) {
      const rows = await read<{ id: string; field: string; text: string }>(
        database,
        sql`select * from rung.search_texts(${generation}, ${ids}::text[], ${fields}::text[])`,
      )
      const aligned: ReturnType<typeof alignedForm>[] = []
      for (const { text } of rows) {
        aligned.push(alignedForm(text, language))
        await new Promise(setImmediate) // a long text takes some milliseconds; let other requests run
      }
      const marked = await read<{ marked: string }>(
        database,
        sql`
        select rung.search_marked(${language}::regconfig, form, ${query}::tsquery) as marked
        from unnest(${aligned.map(({ form }) => form)}::text[]) with ordinality given (form, at) order by at`,
      )
      return rows.map(({ id, field, text }, at) => ({
        id,
        field,
        html: pieceOf(text, aligned[at]!.places, marked[at]!.marked),
      }))
    },

    rebuild: (index) => beginRebuild(database, index),
  }
}

async function beginRebuild(database: Database, { module, name, language }: IndexKey): Promise<Rebuild> {
  const run = <Row>(statement: Sql) => runAlone<Row>(database, statement, 'write')
  // A session of its own: the lock ends with it, and statements whose time grows with the index have no time limit in it.
  const session = await database.connect({ target: 'session', deadlineAt: ownDeadline() })
  const runHere = (statement: Sql) => session.run(compile(statement))
  const key = sql`hashtextextended(${`rung.search rebuild ${module} ${name}`}, 0)`
  const release = async () => {
    await runHere(sql`select pg_advisory_unlock(${key})`).catch(() => {})
    session.release(true) // closed, because it has no time limits
  }
  let generation: number
  try {
    const { rows } = await runHere(sql`
      select pg_try_advisory_lock(${key}) as locked,
        set_config('statement_timeout', '0', false), set_config('lock_timeout', '0', false)`)
    if (rows[0]!.locked !== true) {
      throw new RungError(
        'SEARCH_REBUILDING',
        `The index "${name}" of module "${module}" is being rebuilt. Wait for that rebuild, or end its process.`,
      )
    }
    const begun = await run<{ generation: number }>(
      sql`select rung.search_rebuild_begin(${module}, ${name}) as generation`,
    )
    generation = begun[0]!.generation
  } catch (error) {
    await release()
    throw error
  }
  const lost = (error: unknown) => {
    if (sqlState(error) !== rebuildLost) return error
    return new RungError(
      'SEARCH_REBUILDING',
      `This rebuild of "${name}" lost its connection, and another one has begun. Wait for that one.`,
      { cause: error },
    )
  }
  async function end(finish: boolean): Promise<void> {
    try {
      if (finish) {
        const table = (suffix: string) => sql.id('rung', `search_${generation}${suffix}`)
        // Concurrently, so that writers into the new generation do not wait for it.
        await runHere(sql`create index concurrently on ${table('')}
          using gin (vector, marks, ts_filter(vector, '{a,b}')) with (fastupdate = off)`)
        await runHere(sql`analyze ${table('')}, ${table('_word')}, ${table('_level')}`)
      }
      const ended = await run<{ old: number }>(
        sql`select rung.search_rebuild_end(${module}, ${name}, ${generation}, ${finish}) as old`,
      )
      // Readers lock the tables during their statements. The next rebuild drops what cannot be dropped now.
      await run(sql`select rung.search_drop(${ended[0]!.old})`).catch((error) => {
        if (!isRungError(error, 'DATA_LOCK_TIMEOUT')) throw error
      })
    } catch (error) {
      throw lost(error)
    } finally {
      await release()
    }
  }
  return {
    async put(documents) {
      const json = JSON.stringify(documents.map(({ id, document }) => ({ id, ...document })))
      await run(
        sql`select rung.search_rebuild_put(${module}, ${name}, ${generation}, ${language}::regconfig, ${json}::jsonb)`,
      ).catch((error) => {
        throw lost(error)
      })
    },
    finish: () => end(true),
    abandon: () => end(false),
  }
}

/**
 * Runs a statement on the read pool. It is cancelled with the scope.
 * @throws GenerationDropped if its tables no longer exist
 */
async function read<Row>(database: Database, statement: Sql): Promise<Row[]> {
  const scope = currentScope()
  if (scope?.cancelled) throw scope.cancelled
  if (database.lags) await scope?.recallPosition()
  const connection = await database.connect(toRead(database, scope))
  const endCancel = cancelWithScope(connection)
  let broken = false
  try {
    const { rows, seen } = await connection.run(compile(statement))
    noteSeen(scope, database, seen)
    return rows as Row[]
  } catch (error) {
    broken = isRungError(error, 'DATA_UNAVAILABLE')
    if (sqlState(error) === tableGone) throw new GenerationDropped()
    throw scope?.cancelled && isRungError(error, 'DATA_TIMEOUT') ? scope.cancelled : error
  } finally {
    await endCancel()
    connection.release(broken)
  }
}

interface TermRow {
  generation: number
  documents: number
  typos: boolean
  query: string
  ranking: string
  docs: number
  strong: number
  suggestions: { word: string; stem: string; docs: number }[]
}

interface MatchesRow {
  total: number
  hits: { id: string; score: number }[]
  facets: { mark: string; count: number }[]
}

/** Returns a query that ranks words with the same beginning as one term, plus those whose stem begins differently. */
function beginningRanking({ text, kind }: Term, query: string, words: TermRow['suggestions']): string | undefined {
  if (kind !== 'prefix' || !words.some(({ word }) => word.startsWith(text))) return undefined
  const others = words.flatMap(({ stem }) => (stem.startsWith(text) ? [] : [quoted(stem)]))
  return [...(query === '' ? [] : [`(${query})`]), `${quoted(text)}:*`, ...others].join(' | ')
}

/** Quotes a lexeme as in the text form of a tsquery. */
function quoted(lexeme: string): string {
  return `'${lexeme.replaceAll('\\', '\\\\').replaceAll("'", "''")}'`
}

function groupsOf(changes: readonly Change[]) {
  const byIndex = Map.groupBy(changes, ({ index }) => `${index.module} ${index.name} ${index.language}`)
  return [...byIndex.values()].map((group) => {
    const { module, name, language } = group[0]!.index
    const puts = group.flatMap((change) => (change.document ? [{ id: change.id, ...change.document }] : []))
    const removals = group.flatMap((change) => (change.document ? [] : [change.id]))
    return { module, name, language, puts, removals: removals.sort() }
  })
}
