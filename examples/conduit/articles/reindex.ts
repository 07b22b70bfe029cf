import { type Data, defineJob, isRungError, type JobRun, type Search, type Tx } from 'rung'
import { Type } from 'typebox'
import type { ArticleRow } from './articles.ts'
import { articleIndex, documentOf, indexVersion } from './searchable.ts'

/**
 * Articles that were written before there was an index, or past the app, come into it by a rebuild. `articles.index_fill` says of a
 * version of the index where that stands:
 *
 *   no row             nobody has filled it: the job does, within a minute of the start
 *   filled_at is null  a seed is at work, was interrupted, or was told to leave it: the job keeps out of it
 *   filled_at          it has all articles; what is written from then on rides its commit
 */
export const reindex = defineJob('articles.reindex', Type.Object({}), { timeout: '12h', fleetConcurrency: 1 })

const pageSize = 500

export type OnFilled = (done: number, total: number) => void

export async function fillOnce(data: Data, search: Search, run: JobRun<Tx>): Promise<void> {
  if ((await fillOf(data)) !== 'none') return
  try {
    await rebuild(data, search, (done, total) => run.progress(total === 0 ? 1 : Math.min(1, done / total)))
  } catch (error) {
    if (isRungError(error, 'SEARCH_REBUILDING')) return // by somebody else; the next minute looks again
    throw error
  }
  await run.complete(
    (tx) => tx`
      insert into articles.index_fill (version, filled_at) values (${indexVersion}, now()) on conflict do nothing`,
  )
}

export async function fillOf(data: Data): Promise<'none' | 'left' | 'filled'> {
  const [row] = await data.read(
    (sql) => sql<{ filled_at: Date | null }>`
      select filled_at from articles.index_fill where version = ${indexVersion}`,
  )
  return row === undefined ? 'none' : row.filled_at === null ? 'left' : 'filled'
}

/** From here on it is the caller's to fill, or to leave. */
export async function leaveUnfilled(data: Data): Promise<void> {
  await data.write(
    (tx) => tx`
      insert into articles.index_fill (version) values (${indexVersion})
      on conflict (version) do update set filled_at = null`,
  )
}

export async function setFilled(data: Data): Promise<void> {
  await data.write(
    (tx) => tx`
      insert into articles.index_fill (version, filled_at) values (${indexVersion}, now())
      on conflict (version) do update set filled_at = now()`,
  )
}

/**
 * All articles, from the smallest number on, while they are read and written.
 * @throws SEARCH_REBUILDING while somebody else does it
 */
export async function rebuild(data: Data, search: Search, onFilled: OnFilled): Promise<void> {
  const [counted] = await data.read(
    (sql) => sql<{ n: number }>`select coalesce(sum(n), 0)::int as n from articles.article_count`,
  )
  const total = counted!.n
  await search.rebuild(articleIndex, async function* () {
    let done = 0
    for (let after = 0; ; ) {
      const page = await pageAfter(data, after)
      if (page.length === 0) return
      yield page.map((row) => ({ id: row.id, document: documentOf(row) }))
      after = page.at(-1)!.id
      done += page.length
      onFilled(Math.min(done, total), total)
    }
  })
}

async function pageAfter(data: Data, after: number): Promise<Page> {
  return data.read(
    (sql) => sql<Page[number]>`
      select id, author_id, title, description, body, tag_list from articles.article
      where id > ${after} order by id limit ${pageSize}`,
  )
}

type Page = Pick<ArticleRow, 'id' | 'author_id' | 'title' | 'description' | 'body' | 'tag_list'>[]
