import { call, type Data } from 'rung'
import { Type } from 'typebox'
import { AccountId, NullableText, PageAsked, Profile } from '../schemas.ts'
import { addressOf } from './accounts.ts'
import { accountOf, followsCount, followsOf } from './kept.ts'
import { followedByBatch, idOf, profilesBatch } from './profiles.ts'
import type { Tokens } from './tokens.ts'

const Id = Type.Integer({ minimum: 1 })
const text = Type.String()

/** What other modules may ask of identity. */
export function identityCalls(data: Data, tokens: Tokens) {
  const followedBy = followedByBatch(data)
  return {
    authenticate: call(
      Type.Object({ token: text }),
      Type.Union([Type.Object({ accountId: Id }), Type.Null()]),
      async ({ token }) => {
        const accountId = await tokens.verify(token)
        return accountId === undefined ? null : { accountId }
      },
    ),
    profiles: call(
      Type.Object({ ids: Type.Array(Id), viewer: Type.Union([Id, Type.Null()]) }),
      Type.Array(Type.Intersect([Type.Object({ id: Id }), Profile])),
      profilesBatch(data),
    ),
    idOf: call(Type.Object({ username: text }), Type.Union([Id, Type.Null()]), ({ username }) => idOf(data, username)),
    followedBy: call(AccountId, Type.Array(Id), ({ accountId }) => followedBy(accountId)),
    addressOf: call(
      AccountId,
      Type.Union([Type.Object({ email: text, username: text }), Type.Null()]),
      ({ accountId }) => addressOf(data, accountId),
    ),
    accountOf: call(
      AccountId,
      Type.Union([
        Type.Object({ username: text, email: text, bio: NullableText(), image: NullableText(), createdAt: text }),
        Type.Null(),
      ]),
      ({ accountId }) => accountOf(data, accountId),
    ),
    followsOf: call(PageAsked, Type.Array(Type.Object({ id: Id, username: text, followedAt: text })), (asked) =>
      followsOf(data, asked),
    ),
    followsCount: call(AccountId, Type.Object({ follows: Type.Integer() }), ({ accountId }) =>
      followsCount(data, accountId),
    ),
  }
}
