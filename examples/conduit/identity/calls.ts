import type { CallHandlers, ModuleContext } from 'rung'
import { addressOf, logIn, register, updateAccount } from './accounts.ts'
import type { Authentication } from './authentication.ts'
import type { identityCalls } from './contract.ts'
import { accountOf, followsCount, followsOf } from './kept.ts'
import { follow, idOf, keptProfiles, profileNamed, unfollow } from './profiles.ts'
import { isFresh } from './tokens.ts'

/** How identity answers what other modules ask of it. */
export function answers(
  { data, cache, sessions }: Pick<ModuleContext, 'data' | 'cache' | 'sessions'>,
  { authenticate }: Authentication,
): CallHandlers<typeof identityCalls> {
  const kept = keptProfiles({ data, cache })
  const accountIdOf = ({ id }: { id: number }) => ({ accountId: id })
  return {
    register: async (user) => accountIdOf(await register(data, user)),
    logIn: async (login) => accountIdOf(await logIn(data, login)),
    change: async ({ accountId, changes, signedInAt }) => {
      const proof = { isFresh: signedInAt !== undefined && isFresh(signedInAt) }
      return accountIdOf(await updateAccount({ data, sessions }, accountId, changes, proof))
    },
    profile: ({ username, viewer }) => profileNamed(data, username, viewer),
    follow: async ({ viewer, username, following }) => {
      await (following ? follow(data, viewer, username) : unfollow(data, viewer, username))
      return null
    },
    authenticate,
    profiles: ({ ids }) => kept.profiles(ids),
    idOf: ({ username }) => idOf(data, username),
    followedBy: ({ accountId }) => kept.followedBy(accountId),
    addressOf: ({ accountId }) => addressOf(data, accountId),
    accountOf: ({ accountId }) => accountOf(data, accountId),
    followsOf: (asked) => followsOf(data, asked),
    followsCount: ({ accountId }) => followsCount(data, accountId),
  }
}
