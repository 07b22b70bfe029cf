import { type Static, Type } from 'typebox'
import { Amount, Currency, Name, OrderId } from '../schemas.ts'

const Price = Type.Integer({ minimum: 1, maximum: 100_000_000 })
const Quantity = Type.Integer({ minimum: 1, maximum: 1_000 })

export const Sku = Type.String({ pattern: '^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$' })
export const NewProduct = Type.Object({ name: Name, price: Price, currency: Currency })
export const Product = Type.Object({
  sku: Type.String(),
  name: Type.String(),
  price: Amount,
  currency: Type.String(),
  available: Type.Integer(),
})
export const StockChange = Type.Object({ change: Type.Integer({ minimum: -1_000_000, maximum: 1_000_000 }) })

export const NewOrder = Type.Object({
  lines: Type.Array(Type.Object({ sku: Sku, quantity: Quantity }), { minItems: 1, maxItems: 50 }),
  /** What the provider gave the customer in place of a card's number. */
  source: Type.String({ pattern: '^[\\w-]{1,100}$' }),
})
export type NewOrder = Static<typeof NewOrder>

export const Order = Type.Object({
  id: OrderId,
  number: Type.Integer(),
  state: Type.String({ enum: ['placed', 'paid', 'shipped', 'declined', 'cancelled', 'expired'] }),
  currency: Type.String(),
  total: Amount,
  lines: Type.Array(Type.Object({ sku: Type.String(), name: Type.String(), price: Amount, quantity: Type.Integer() })),
  placedAt: Type.String({ format: 'date-time' }),
})

export const Entry = Type.Object({
  id: Type.Integer(),
  orderId: OrderId,
  transfer: Type.String({ enum: ['capture', 'release', 'refund'] }),
  account: Type.String({ enum: ['provider', 'held', 'earned'] }),
  amount: Type.Integer(),
  currency: Type.String(),
})
