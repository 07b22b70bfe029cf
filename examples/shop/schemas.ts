import { Type } from 'typebox'

/** Shapes that more than one module speaks of. */

/** Money is a whole number of the currency's smallest unit: 1999 of EUR are 19.99 €. */
export const Amount = Type.Integer({ minimum: 1, maximum: Number.MAX_SAFE_INTEGER })
export const Currency = Type.String({ pattern: '^[A-Z]{3}$' })
export const Name = Type.String({ minLength: 1, maxLength: 200, pattern: '\\S' })
export const OrderId = Type.String({ format: 'uuid' })

/** What comes after a number, in order. */
export const Paging = Type.Object({
  after: Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER, default: 0 }),
  limit: Type.Integer({ minimum: 1, maximum: 100, default: 20 }),
})

/** Rung's problem+json. */
const Problem = Type.Object(
  { type: Type.String(), title: Type.String(), status: Type.Integer(), code: Type.String(), detail: Type.String() },
  { additionalProperties: true },
)

/** Answers that any operation may have besides its own. */
export const failures = { 400: Problem, 401: Problem, 403: Problem, 404: Problem, 409: Problem, 422: Problem }

export const security = [{ token: [] }]
