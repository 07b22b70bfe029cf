import type { Data } from 'rung'
import { createdMsOf } from './articles.ts'
import { batches, dayMs, type OnProgress, type Seeded, type SeedPlan, seedTime } from './plan.ts'
import { randomFor, shares, zipf } from './random.ts'
import { textOf } from './words.ts'

const articlesAtOnce = 10_000
const within = 60 * dayMs

/** Comments on the articles. Those that have some of the seed's time already get no more. */
export async function seedComments(
  data: Data,
  plan: SeedPlan,
  accounts: Float64Array,
  articles: Float64Array,
  seeded: Seeded,
  onProgress: OnProgress,
): Promise<void> {
  if (plan.comments === 0) return
  const counts = shares(plan.comments, plan.articles, plan.comments, (index) => randomFor(plan.seed, 'comments', index))
  for (const batch of batches(plan.articles, articlesAtOnce)) {
    const ids = batch.map((index) => articles[index]!)
    seeded.comments += await data.write(async (tx) => {
      const rows = await tx<{ id: number }>`
        select distinct article_id as id from comments.comment
        where article_id = any(${ids}) and created_at < to_timestamp(${(seedTime.toMs + within) / 1000}::float8)`
      const done = new Set(rows.map(({ id }) => id))
      const fresh = batch
        .filter((index) => !done.has(articles[index]!))
        .flatMap((index) => commentsOf(plan, index, counts[index]!, accounts, articles[index]!))
      if (fresh.length === 0) return 0
      await tx`insert into comments.comment (article_id, author_id, body, created_at, updated_at)
        select article_id, author_id, body, to_timestamp(ms / 1000.0), to_timestamp(ms / 1000.0)
        from unnest(
          ${fresh.map(({ articleId }) => articleId)}::bigint[], ${fresh.map(({ authorId }) => authorId)}::bigint[],
          ${fresh.map(({ body }) => body)}::text[], ${fresh.map(({ createdMs }) => createdMs)}::bigint[]
        ) as new (article_id, author_id, body, ms)`
      return fresh.length
    })
    onProgress('comments', batch.at(-1)! + 1, plan.articles)
  }
}

function commentsOf(plan: SeedPlan, index: number, count: number, accounts: Float64Array, articleId: number) {
  const random = randomFor(plan.seed, 'comment', index)
  const createdMs = createdMsOf(plan, index)
  const times = Array.from({ length: count }, () => createdMs + Math.floor(random() * within)).sort((a, b) => a - b)
  return times.map((ms) => ({
    articleId,
    authorId: accounts[zipf(random, plan.users)]!,
    body: textOf(random, 1, 3),
    createdMs: ms,
  }))
}
