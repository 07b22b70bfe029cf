import type { Cache, CallHandlers, Data } from 'rung'
import {
  createArticle,
  deleteArticle,
  favoritedAmong,
  refOf,
  setFavorite,
  titlesOf,
  updateArticle,
} from './articles.ts'
import { tagsOfList, tagsTag } from './cached.ts'
import type { articleCalls } from './contract.ts'
import { countsOf, favoritesOf, writtenBy } from './kept.ts'
import { tagsInUse } from './lists.ts'
import type { articleReading } from './reading.ts'

const tagsShown = 30

type Name = string | null

/** How articles answers what other modules ask of it. */
export function answers(
  data: Data,
  cache: Cache,
  reading: ReturnType<typeof articleReading>,
): CallHandlers<typeof articleCalls> {
  const given = (name: Name) => (name === null ? undefined : name)
  const slugOf = ({ slug }: { slug: string }) => ({ slug })
  const listed = cache.cached(
    'list',
    {
      ttl: '1m',
      grace: '10m',
      tags: (page, _tag, author, favorited) =>
        tagsOfList({ query: { author: given(author), favorited: given(favorited) } }, page),
    },
    (tag: Name, author: Name, favorited: Name, limit: number, offset: number) =>
      reading.list({ tag: given(tag), author: given(author), favorited: given(favorited), limit, offset }, null),
  )
  const popular = cache.cached('tags', { ttl: '1m', grace: '10m', tags: [tagsTag] }, async () =>
    (await tagsInUse(data)).slice(0, tagsShown),
  )
  return {
    one: async ({ slug }) => {
      const { id, authorId, answer } = await reading.one(slug, null)
      return { id, authorId, article: answer.article }
    },
    list: ({ tag = null, author = null, favorited = null, limit, offset }) =>
      listed(tag, author, favorited, limit, offset),
    feed: (asked) => reading.feed(asked),
    search: (query) => reading.search(query, null),
    popularTags: () => popular(),
    favorited: ({ viewer, slugs }) => favoritedAmong(data, viewer, slugs),
    publish: async ({ viewer, article }) => slugOf(await createArticle(data, viewer, article)),
    change: async ({ viewer, slug, changes }) => slugOf(await updateArticle(data, viewer, slug, changes)),
    remove: async ({ viewer, slug }) => {
      await deleteArticle(data, viewer, slug)
      return null
    },
    favor: async ({ viewer, slug, favorite }) => slugOf(await setFavorite(data, viewer, slug, favorite)),
    refOf: ({ slug }) => refOf(data, slug),
    titlesOf: ({ ids }) => titlesOf(data, ids),
    writtenBy: (asked) => writtenBy(data, asked),
    favoritesOf: (asked) => favoritesOf(data, asked),
    countsOf: ({ accountId }) => countsOf(data, accountId),
  }
}
