import { type Cache, call, type Data } from 'rung'
import { Type } from 'typebox'
import { AccountId, PageAsked } from '../schemas.ts'
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
import { countsOf, favoritesOf, writtenBy } from './kept.ts'
import { tagsInUse } from './lists.ts'
import type { articleReading } from './reading.ts'
import { ArticleChanges, Found, Many, NewArticle, One, Query, SearchQuery } from './shapes.ts'

const Id = Type.Integer({ minimum: 1 })
const titled = { id: Id, slug: Type.String(), title: Type.String() }
const text = Type.String()

const viewer = Id
const slug = text
const tagsShown = 30

/** What other modules may ask of articles. What is as everybody sees it is kept; what it is to one viewer they ask for beside it. */
export const articleCalls = (data: Data, cache: Cache, reading: ReturnType<typeof articleReading>) => ({
  ...readingCalls(data, cache, reading),
  ...writingCalls(data),
  refOf: call(
    Type.Object({ slug: text }),
    Type.Union([Type.Object({ id: Id, authorId: Id }), Type.Null()]),
    ({ slug }) => refOf(data, slug),
  ),
  titlesOf: call(Type.Object({ ids: Type.Array(Id) }), Type.Array(Type.Object(titled)), ({ ids }) =>
    titlesOf(data, ids),
  ),
  writtenBy: call(
    PageAsked,
    Type.Array(
      Type.Object({
        ...titled,
        description: text,
        body: text,
        tagList: Type.Array(text),
        createdAt: text,
        updatedAt: text,
      }),
    ),
    (asked) => writtenBy(data, asked),
  ),
  favoritesOf: call(PageAsked, Type.Array(Type.Object({ ...titled, favoritedAt: text })), (asked) =>
    favoritesOf(data, asked),
  ),
  countsOf: call(AccountId, Type.Object({ articles: Type.Integer(), favorites: Type.Integer() }), ({ accountId }) =>
    countsOf(data, accountId),
  ),
})

function readingCalls(data: Data, cache: Cache, reading: ReturnType<typeof articleReading>) {
  type Name = string | null
  const given = (name: Name) => (name === null ? undefined : name)
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
    one: call(Type.Object({ slug }), Type.Intersect([Type.Object({ id: Id, authorId: Id }), One]), async ({ slug }) => {
      const { id, authorId, answer } = await reading.one(slug, null)
      return { id, authorId, article: answer.article }
    }),
    list: call(Query, Many, ({ tag = null, author = null, favorited = null, limit, offset }) =>
      listed(tag, author, favorited, limit, offset),
    ),
    feed: call(Type.Object({ viewer, limit: Query.properties.limit, offset: Query.properties.offset }), Many, (asked) =>
      reading.feed(asked),
    ),
    search: call(SearchQuery, Found, (query) => reading.search(query, null)),
    popularTags: call(Type.Object({}), Type.Array(text), () => popular()),
    /** Those of them that the viewer favours. */
    favorited: call(Type.Object({ viewer, slugs: Type.Array(slug) }), Type.Array(slug), ({ viewer, slugs }) =>
      favoritedAmong(data, viewer, slugs),
    ),
  }
}

function writingCalls(data: Data) {
  const Slug = Type.Object({ slug })
  const slugOf = ({ slug }: { slug: string }) => ({ slug })
  return {
    publish: call(Type.Object({ viewer, article: NewArticle }), Slug, async ({ viewer, article }) =>
      slugOf(await createArticle(data, viewer, article)),
    ),
    change: call(Type.Object({ viewer, slug, changes: ArticleChanges }), Slug, async ({ viewer, slug, changes }) =>
      slugOf(await updateArticle(data, viewer, slug, changes)),
    ),
    remove: call(Type.Object({ viewer, slug }), Type.Null(), async ({ viewer, slug }) => {
      await deleteArticle(data, viewer, slug)
      return null
    }),
    favor: call(Type.Object({ viewer, slug, favorite: Type.Boolean() }), Slug, async ({ viewer, slug, favorite }) =>
      slugOf(await setFavorite(data, viewer, slug, favorite)),
    ),
  }
}
