import { type CallsOf, defineCalls } from 'rung'
import { Type } from 'typebox'
import { AccountId, NullableText, PageAsked, Profile } from '../schemas.ts'
import { Login, NewUser, UserChanges } from './shapes.ts'

const Id = Type.Integer({ minimum: 1 })
const text = Type.String()
const Viewer = Type.Union([Id, Type.Null()])
const Numbered = Type.Intersect([Type.Object({ id: Id }), Profile])
const SeenByAll = Type.Intersect([Type.Object({ id: Id }), Type.Omit(Profile, ['following'])])
const OneAccount = Type.Object({ accountId: Id })

/** What other modules may ask of identity. */
export const identityCalls = defineCalls('identity', {
  register: { input: NewUser, output: OneAccount },
  /** Refused (401) where it is not the password. */
  logIn: { input: Login, output: OneAccount },
  /** `signedInAt`: in seconds since the epoch; without it a new password needs the current one. */
  change: {
    input: Type.Object({ accountId: Id, changes: UserChanges, signedInAt: Type.Optional(Type.Integer()) }),
    output: OneAccount,
  },
  profile: { input: Type.Object({ username: text, viewer: Viewer }), output: Numbered, read: true },
  follow: { input: Type.Object({ viewer: Id, username: text, following: Type.Boolean() }), output: Type.Null() },
  /** Asked with nearly every request. It ends with the tokens of an account, at once. */
  authenticate: {
    input: Type.Object({ token: text }),
    output: Type.Union([OneAccount, Type.Null()]),
    read: true,
    ttl: '1m',
  },
  profiles: { input: Type.Object({ ids: Type.Array(Id) }), output: Type.Array(SeenByAll), read: true, ttl: '1m' },
  idOf: { input: Type.Object({ username: text }), output: Viewer, read: true },
  followedBy: { input: AccountId, output: Type.Array(Id), read: true, ttl: '1m' },
  addressOf: {
    input: AccountId,
    output: Type.Union([Type.Object({ email: text, username: text }), Type.Null()]),
    read: true,
  },
  accountOf: {
    input: AccountId,
    output: Type.Union([
      Type.Object({ username: text, email: text, bio: NullableText(), image: NullableText(), createdAt: text }),
      Type.Null(),
    ]),
    read: true,
  },
  followsOf: {
    input: PageAsked,
    output: Type.Array(Type.Object({ id: Id, username: text, followedAt: text })),
    read: true,
  },
  followsCount: { input: AccountId, output: Type.Object({ follows: Type.Integer() }), read: true },
})

export type IdentityCalls = CallsOf<typeof identityCalls>
