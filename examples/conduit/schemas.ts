import { type Static, type TProperties, Type } from 'typebox'

/** Shapes that more than one module speaks of. */

/** `type: [string, null]`: a plain JSON Schema that serialises faster than a union. */
export const NullableText = (options: object = {}) =>
  Type.Unsafe<string | null>({ type: ['string', 'null'], ...options })

/** Text that is more than white space. */
export const Filled = (maxLength: number) => Type.String({ minLength: 1, maxLength, pattern: '\\S' })

export const Profile = Type.Object({
  username: Type.String(),
  bio: NullableText(),
  image: NullableText(),
  following: Type.Boolean(),
})

export const Errors = Type.Object({ errors: Type.Record(Type.String(), Type.Array(Type.String())) })

/** Answers that any operation may give besides its own. */
export const failures = { 400: Errors, 413: Errors, 415: Errors, 422: Errors, 503: Errors }
export const Empty = Type.Null()

/** An answer for people. */
export const Page = { content: { 'text/html': { schema: Type.String() } } }

/** The request's envelope: `{ "user": { … } }`. */
export const Envelope = <Name extends string, Shape extends TProperties[string]>(name: Name, shape: Shape) =>
  Type.Object({ [name]: shape } as { [Key in Name]: Shape })

export const Paging = {
  limit: Type.Integer({ minimum: 1, maximum: Number.MAX_SAFE_INTEGER, default: 20 }),
  offset: Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER, default: 0 }),
}

/** A page of something of one account, for another module: what comes after a number, in order. */
export const PageAsked = Type.Object({
  accountId: Type.Integer({ minimum: 1 }),
  after: Type.Integer({ minimum: 0 }),
  limit: Type.Integer({ minimum: 1, maximum: 1_000 }),
})
export type PageAsked = Static<typeof PageAsked>
export const AccountId = Type.Object({ accountId: Type.Integer({ minimum: 1 }) })

/** More than this in one page helps nobody; a larger `limit` gets as many. */
export const pageMax = 100
