import { Type } from 'typebox'
import { Envelope, Filled, NullableText, Paging, Profile } from '../schemas.ts'
import { offsetMax } from './search.ts'

/** What goes in and out, over HTTP and to other modules. */

const Tags = Type.Array(Filled(255), { maxItems: 50 })
export const Title = Filled(255)
export const Description = Filled(1_000)
export const Body = Filled(500_000)
export const NewArticle = Type.Object({
  title: Title,
  description: Description,
  body: Body,
  tagList: Type.Optional(Tags),
})
export const ArticleChanges = Type.Partial(NewArticle)

const listed = {
  slug: Type.String(),
  title: Type.String(),
  description: Type.String(),
  tagList: Type.Array(Type.String()),
  createdAt: Type.String({ format: 'date-time' }),
  updatedAt: Type.String({ format: 'date-time' }),
  favorited: Type.Boolean(),
  favoritesCount: Type.Integer(),
  author: Profile,
}
export const One = Envelope('article', Type.Object({ ...listed, body: Type.String() }))
export const Many = Type.Object({ articles: Type.Array(Type.Object(listed)), articlesCount: Type.Integer() })
export const Views = Envelope(
  'views',
  Type.Object({
    total: Type.Integer(),
    days: Type.Array(Type.Object({ day: Type.String({ format: 'date' }), count: Type.Integer() })),
  }),
)
export const Found = Type.Object({
  articles: Type.Array(
    Type.Object({
      ...listed,
      /** HTML: the text escaped, what was found in `<mark>`. */
      highlights: Type.Partial(Type.Object({ title: Type.String(), description: Type.String(), body: Type.String() })),
    }),
  ),
  articlesCount: Type.Integer(),
  articlesCountIs: Type.Union([Type.Literal('exact'), Type.Literal('at least')]),
  facets: Type.Object({
    tags: Type.Array(Type.Object({ tag: Type.String(), count: Type.Integer() })),
    authors: Type.Array(Type.Object({ username: Type.String(), count: Type.Integer() })),
  }),
  facetsAre: Type.Union([Type.Literal('exact'), Type.Literal('estimated')]),
  corrected: NullableText({ description: 'The text that was looked for, where words in `q` are misspelt.' }),
})
export const Slug = Type.Object({ slug: Type.String() })
export const Query = Type.Object({
  tag: Type.Optional(Type.String()),
  author: Type.Optional(Type.String()),
  favorited: Type.Optional(Type.String()),
  ...Paging,
})

export const SearchQuery = Type.Object({
  q: Type.String({ minLength: 1, pattern: '\\S', description: 'Words, "phrases", and either with a minus in front.' }),
  tag: Type.Optional(Type.String()),
  author: Type.Optional(Type.String()),
  prefix: Type.Boolean({ default: false, description: 'The last word may be the beginning of one.' }),
  limit: Paging.limit,
  offset: Type.Integer({ minimum: 0, maximum: offsetMax, default: 0 }),
})
