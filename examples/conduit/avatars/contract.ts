import { type CallsOf, defineCalls } from 'rung'
import { Type } from 'typebox'
import { AccountId, NullableText } from '../schemas.ts'

export const Avatar = Type.Object({
  state: Type.Union([Type.Literal('none'), Type.Literal('processing'), Type.Literal('ready'), Type.Literal('failed')]),
  error: NullableText(),
  image: NullableText(),
})

/** What other modules may ask of the avatars. */
export const avatarCalls = defineCalls('avatars', {
  of: { input: AccountId, output: Avatar, read: true },
  remove: { input: AccountId, output: Type.Null() },
})

export type AvatarCalls = CallsOf<typeof avatarCalls>
