import { call, type Data, type Sessions } from 'rung'
import { Type } from 'typebox'
import { AccountId, NullableText, PageAsked, Profile } from '../schemas.ts'
import { addressOf, logIn, register, updateAccount } from './accounts.ts'
import type { Authentication } from './authentication.ts'
import { accountOf, followsCount, followsOf } from './kept.ts'
import { follow, followedByBatch, idOf, profileNamed, profilesBatch, unfollow } from './profiles.ts'
import { Login, NewUser, UserChanges } from './shapes.ts'

const Id = Type.Integer({ minimum: 1 })
const text = Type.String()

/** What other modules may ask of identity. */
export function identityCalls(data: Data, sessions: Sessions, { authenticate }: Authentication) {
  const followedBy = followedByBatch(data)
  const OneAccount = Type.Object({ accountId: Id })
  const accountIdOf = ({ id }: { id: number }) => ({ accountId: id })
  return {
    register: call(NewUser, OneAccount, async (user) => accountIdOf(await register(data, user))),
    /** Refused (401) where it is not the password. */
    logIn: call(Login, OneAccount, async (login) => accountIdOf(await logIn(data, login))),
    change: call(Type.Object({ accountId: Id, changes: UserChanges }), OneAccount, async ({ accountId, changes }) =>
      accountIdOf(await updateAccount({ data, sessions }, accountId, changes)),
    ),
    profile: call(
      Type.Object({ username: text, viewer: Type.Union([Id, Type.Null()]) }),
      Type.Intersect([Type.Object({ id: Id }), Profile]),
      ({ username, viewer }) => profileNamed(data, username, viewer),
    ),
    follow: call(
      Type.Object({ viewer: Id, username: text, following: Type.Boolean() }),
      Type.Null(),
      async ({ viewer, username, following }) => {
        await (following ? follow(data, viewer, username) : unfollow(data, viewer, username))
        return null
      },
    ),
    authenticate: call(
      Type.Object({ token: text }),
      Type.Union([Type.Object({ accountId: Id }), Type.Null()]),
      authenticate,
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
