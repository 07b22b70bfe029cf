import { call, type Data } from 'rung'
import { Type } from 'typebox'
import { AccountId, PageAsked } from '../schemas.ts'
import { refOf, titlesOf } from './articles.ts'
import { countsOf, favoritesOf, writtenBy } from './kept.ts'

const Id = Type.Integer({ minimum: 1 })
const titled = { id: Id, slug: Type.String(), title: Type.String() }
const text = Type.String()

/** What other modules may ask of articles. */
export const articleCalls = (data: Data) => ({
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
