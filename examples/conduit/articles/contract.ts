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
  one: { input: Slug, output: Type.Intersect([Owned, One]) },
  list: { input: Query, output: Many },
  feed: { input: Type.Object({ viewer, limit, offset }), output: Many },
  search: { input: SearchQuery, output: Found },
  popularTags: { input: Type.Object({}), output: Type.Array(text) },
  /** Returns those of the slugs that the viewer favours. */
  favorited: { input: Type.Object({ viewer, slugs: Type.Array(slug) }), output: Type.Array(slug) },
  publish: { input: Type.Object({ viewer, article: NewArticle }), output: Slug },
  change: { input: Type.Object({ viewer, slug, changes: ArticleChanges }), output: Slug },
  remove: { input: Type.Object({ viewer, slug }), output: Type.Null() },
  favor: { input: Type.Object({ viewer, slug, favorite: Type.Boolean() }), output: Slug },
  refOf: { input: Slug, output: Type.Union([Owned, Type.Null()]) },
  titlesOf: { input: Type.Object({ ids: Type.Array(Id) }), output: Type.Array(Type.Object(titled)) },
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
  },
  favoritesOf: { input: PageAsked, output: Type.Array(Type.Object({ ...titled, favoritedAt: text })) },
  countsOf: { input: AccountId, output: Type.Object({ articles: Type.Integer(), favorites: Type.Integer() }) },
})

export type ArticleCalls = CallsOf<typeof articleCalls>
