import type { ArticleCalls } from '../articles/contract.ts'
import type { CommentCalls } from '../comments/contract.ts'
import type { IdentityCalls } from '../identity/contract.ts'

export type Calls = { identity: IdentityCalls; articles: ArticleCalls; comments: CommentCalls }

/** Articles have long bodies: a page of them is 10 MB at most. */
const articlesAtOnce = 20
const rowsAtOnce = 500

/**
 * All that there is of an account as JSON, page by page: of accounts with a hundred thousand comments no more than a page is
 * in memory. Each page is of its own moment; what is written meanwhile may be in it or not.
 */
export async function* contentOf(
  calls: Calls,
  accountId: number,
  progress: (share: number) => void,
): AsyncGenerator<string> {
  const profile = await calls.identity.accountOf({ accountId })
  const totals = await Promise.all([
    calls.identity.followsCount({ accountId }),
    calls.articles.countsOf({ accountId }),
    calls.comments.countOf({ accountId }),
  ])
  const total = totals[0].follows + totals[1].articles + totals[1].favorites + totals[2].comments
  let written = 0

  async function* list<Row extends { id: number }>(
    name: string,
    limit: number,
    pageAfter: (after: number, limit: number) => Promise<Row[]>,
  ): AsyncGenerator<string> {
    yield `,\n"${name}": [`
    let separator = '\n'
    for (let after = 0; ; ) {
      const rows = await pageAfter(after, limit)
      if (rows.length > 0) {
        yield separator + rows.map(({ id, ...row }) => JSON.stringify(row)).join(',\n')
        separator = ',\n'
      }
      written += rows.length
      progress(Math.min(0.99, written / Math.max(1, total)))
      if (rows.length < limit) break
      after = rows.at(-1)!.id
    }
    yield '\n]'
  }

  yield `{"profile": ${JSON.stringify(profile)}`
  yield* list('articles', articlesAtOnce, (after, limit) => calls.articles.writtenBy({ accountId, after, limit }))
  yield* list('comments', rowsAtOnce, (after, limit) => commentsOf(calls, { accountId, after, limit }))
  yield* list('favorites', rowsAtOnce, (after, limit) => calls.articles.favoritesOf({ accountId, after, limit }))
  yield* list('follows', rowsAtOnce, (after, limit) => calls.identity.followsOf({ accountId, after, limit }))
  yield '\n}\n'
}

/** With the address of the article instead of its number. */
async function commentsOf(calls: Calls, asked: { accountId: number; after: number; limit: number }) {
  const rows = await calls.comments.writtenBy(asked)
  const articles = await calls.articles.titlesOf({ ids: [...new Set(rows.map(({ articleId }) => articleId))] })
  const slugs = new Map(articles.map(({ id, slug }) => [id, slug]))
  return rows.map(({ articleId, ...row }) => ({ ...row, article: slugs.get(articleId) ?? null }))
}
