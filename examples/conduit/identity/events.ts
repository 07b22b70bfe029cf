import { defineEvent } from 'rung'
import { Type } from 'typebox'
import { NullableText } from '../schemas.ts'

/** What identity tells. The key is the account that it is about, so that each hears of one account in order. */

const Id = Type.Integer({ minimum: 1 })
const Seen = Type.Object({ accountId: Id, username: Type.String(), bio: NullableText(), image: NullableText() })

export const AccountRegistered = defineEvent('identity.registered', Seen)
/** Something that others see of an account is another than before. */
export const AccountChanged = defineEvent('identity.changed', Seen)
export const AccountFollowed = defineEvent('identity.followed', Type.Object({ followerId: Id, followeeId: Id }))

/** Accounts and articles have numbers of their own: a bare number would put both behind each other. */
export const accountKey = (accountId: number) => `account:${accountId}`
