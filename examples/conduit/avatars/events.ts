import { defineEvent } from 'rung'
import { Type } from 'typebox'
import { NullableText } from '../schemas.ts'

/** An account has another avatar, or none; `replaces` is the one it had. */
export const AvatarChanged = defineEvent(
  'avatars.changed',
  Type.Object({ accountId: Type.Integer({ minimum: 1 }), image: NullableText(), replaces: NullableText() }),
)
