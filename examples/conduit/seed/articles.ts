import type { Data } from 'rung'
import { everyList, favorites as favoritesTag, tagsTag } from '../articles/cached.ts'
import { slugOf } from '../articles/slugs.ts'
import { batches, dayMs, type OnProgress, type Seeded, type SeedPlan, seedTime, suffixOf } from './plan.ts'
import { randomFor, shares, zipf, zipfSet } from './random.ts'
import { tagsOf, textOf, titleOf } from './words.ts'

interface SeedArticle {
  index: number
  slug: string
  authorId: number
  title: string
  description: string
  body: string
  tagList: string[]
  createdMs: number
  updatedMs: number
}

const atOnce = 2_000

/** Articles with their tags and favorites. Returns their ids by their place in the plan. */
export async function seedArticles(
  data: Data,
  plan: SeedPlan,
  accounts: Float64Array,
  seeded: Seeded,
  onProgress: OnProgress,
): Promise<Float64Array> {
  const ids = new Float64Array(plan.articles)
  const favorites = shares(plan.favorites, plan.articles, plan.users, (index) =>
    randomFor(plan.seed, 'favorites', index),
  )
  for (const batch of batches(plan.articles, atOnce)) {
    const all = batch.map((index) => articleOf(plan, accounts, index))
    const added = await data.write(async (tx) => {
      const there = await tx<{ id: number; slug: string }>`
        select id, slug from articles.article where slug = any(${all.map(({ slug }) => slug)})`
      const idOf = new Map(there.map(({ id, slug }) => [slug, id]))
      const fresh = all.filter(({ slug }) => !idOf.has(slug))
      if (fresh.length > 0) {
        const rows = await tx<{ id: number; slug: string }>`
          insert into articles.article (slug, author_id, title, description, body, tag_list, created_at, updated_at)
          select slug, author_id, title, description, body, string_to_array(tags, ','),
            to_timestamp(created_ms / 1000.0), to_timestamp(updated_ms / 1000.0)
          from unnest(
            ${fresh.map(({ slug }) => slug)}::text[], ${fresh.map(({ authorId }) => authorId)}::bigint[],
            ${fresh.map(({ title }) => title)}::text[], ${fresh.map(({ description }) => description)}::text[],
            ${fresh.map(({ body }) => body)}::text[], ${fresh.map(({ tagList }) => tagList.join(','))}::text[],
            ${fresh.map(({ createdMs }) => createdMs)}::bigint[], ${fresh.map(({ updatedMs }) => updatedMs)}::bigint[]
          ) as new (slug, author_id, title, description, body, tags, created_ms, updated_ms)
          returning id, slug`
        for (const { id, slug } of rows) idOf.set(slug, id)
        await tx`insert into articles.article_tag (tag, article_id, author_id)
          select unnest(tag_list), id, author_id from articles.article where id = any(${rows.map(({ id }) => id)})`
      }
      for (const { index, slug } of all) ids[index] = idOf.get(slug)!
      const [fans, favored] = whoFavorsWhat(plan, favorites, fresh, accounts, ids)
      if (fans.length > 0) {
        await tx`insert into articles.favorite (account_id, article_id, created_at)
          select fan, id, created_at from unnest(${fans}::bigint[], ${favored}::bigint[]) as new (fan, id)
          join articles.article using (id) order by fan, id`
      }
      tx.invalidate([everyList, favoritesTag, tagsTag]) // of an app that runs meanwhile
      return { articles: fresh.length, favorites: fans.length }
    })
    seeded.articles += added.articles
    seeded.favorites += added.favorites
    onProgress('articles', batch.at(-1)! + 1, plan.articles)
  }
  return ids
}

export function createdMsOf(plan: SeedPlan, index: number): number {
  const { fromMs, toMs } = seedTime
  return Math.floor(fromMs + ((toMs - fromMs) * index) / plan.articles)
}

function articleOf(plan: SeedPlan, accounts: Float64Array, index: number): SeedArticle {
  const random = randomFor(plan.seed, 'article', index)
  const title = titleOf(random)
  const createdMs = createdMsOf(plan, index)
  return {
    index,
    slug: `${slugOf(title)}-${suffixOf(plan, index)}`,
    authorId: accounts[zipf(random, plan.users)]!,
    title,
    description: textOf(random, 1, 2),
    body: textOf(random, 4, 16),
    tagList: tagsOf(random),
    createdMs,
    updatedMs: createdMs + (random() < 0.2 ? Math.floor(random() * 30 * dayMs) : 0),
  }
}

function whoFavorsWhat(
  plan: SeedPlan,
  counts: Int32Array,
  articles: readonly SeedArticle[],
  accounts: Float64Array,
  ids: Float64Array,
): [fans: number[], favored: number[]] {
  const fans: number[] = []
  const favored: number[] = []
  for (const { index } of articles) {
    for (const fan of zipfSet(randomFor(plan.seed, 'favorite', index), counts[index]!, plan.users)) {
      fans.push(accounts[fan]!)
      favored.push(ids[index]!)
    }
  }
  return [fans, favored]
}
