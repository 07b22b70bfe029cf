import { type Static, Type } from 'typebox'
import { Envelope, Filled, NullableText, Profile } from '../schemas.ts'

/** What goes in and out, over HTTP and to other modules. */

/** `checkUsername` refuses more, in its own words. */
export const Username = Type.String({
  minLength: 1,
  maxLength: 64,
  pattern: '\\S',
  description: 'Without slashes, control or format characters, and white space at its ends, and not only dots.',
})
export const Email = Type.String({ minLength: 1, maxLength: 254, pattern: '\\S', format: 'email' })
export const Password = Type.String({ minLength: 8, maxLength: 256 })

export const User = Type.Object({
  username: Type.String(),
  email: Type.String(),
  token: Type.String(),
  bio: NullableText(),
  image: NullableText(),
})
export const NewUser = Type.Object({ username: Username, email: Email, password: Password })
export const Login = Type.Object({ email: Filled(254), password: Type.String({ minLength: 1, maxLength: 256 }) })
export type Login = Static<typeof Login>
export const UserChanges = Type.Partial(
  Type.Object({
    username: Username,
    email: Email,
    password: Password,
    currentPassword: Type.String({ minLength: 1, maxLength: 256 }),
    bio: NullableText({ maxLength: 5_000 }),
    image: NullableText({ maxLength: 2_048 }),
  }),
)
export const Name = Type.Object({ username: Type.String() })
export const OneProfile = Envelope('profile', Profile)
export const OneUser = Envelope('user', User)
