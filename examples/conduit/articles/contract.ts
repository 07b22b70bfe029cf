import { type CallsOf, defineCalls } from 'rung'
import { Type } from 'typebox'
import { AccountId, PageAsked } from '../schemas.ts'
import { ArticleChanges, Found, Many, NewArticle, One, Query, SearchQuery } from './shapes.ts'

const Id = Type.Integer({ minimum: 1 })
const text = Type.String()
const titled = { id: Id, slug: text, title: text }
const viewer = Id
const slug = text
const Slug = Type.Object({ slug })
const Owned = Type.Object({ id: Id, authorId: Id })
const { limit, offset } = Query.properties

/**
 * What other modules may ask of articles. What is the same for everybody is kept in the cache; what it is to one viewer has
 * calls of its own.
 */
export const articleCalls = defineCalls('articles', {
  one: { input: Slug, output: Type.Intersect([Owned, One]), read: true },
  list: { input: Query, output: Many, read: true },
  feed: { input: Type.Object({ viewer, limit, offset }), output: Many, read: true },
  search: { input: SearchQuery, output: Found, read: true },
  popularTags: { input: Type.Object({}), output: Type.Array(text), read: true },
  /** Returns those of the slugs that the viewer favours. */
  favorited: { input: Type.Object({ viewer, slugs: Type.Array(slug) }), output: Type.Array(slug), read: true },
  publish: { input: Type.Object({ viewer, article: NewArticle }), output: Slug },
  change: { input: Type.Object({ viewer, slug, changes: ArticleChanges }), output: Slug },
  remove: { input: Type.Object({ viewer, slug }), output: Type.Null() },
  favor: { input: Type.Object({ viewer, slug, favorite: Type.Boolean() }), output: Slug },
  refOf: { input: Slug, output: Type.Union([Owned, Type.Null()]), read: true },
  titlesOf: { input: Type.Object({ ids: Type.Array(Id) }), output: Type.Array(Type.Object(titled)), read: true },
  writtenBy: {
    input: PageAsked,
    output: Type.Array(
      Type.Object({
        ...titled,
        description: text,
        body: text,
        tagList: Type.Array(text),
        createdAt: text,
        updatedAt: text,
      }),
    ),
    read: true,
  },
  favoritesOf: { input: PageAsked, output: Type.Array(Type.Object({ ...titled, favoritedAt: text })), read: true },
  countsOf: {
    input: AccountId,
    output: Type.Object({ articles: Type.Integer(), favorites: Type.Integer() }),
    read: true,
  },
})

export type ArticleCalls = CallsOf<typeof articleCalls>
