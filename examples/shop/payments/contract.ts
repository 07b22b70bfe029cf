import { defineEvent, defineJob } from 'rung'
import { type Static, Type } from 'typebox'
import { Amount, Currency, OrderId } from '../schemas.ts'

/** What other modules may ask of payments, as jobs that ride their commit, and what they hear of it. */

const Money = Type.Object({ orderId: OrderId, amount: Amount, currency: Currency })

/** Asked again and again until the provider has answered: a payment whose outcome is unknown is never given up for a few failures. */
const untilAnswered = { attempts: 1_000, backoff: { base: '500ms', max: '1m' }, timeout: '30s' } as const

export const charge = defineJob(
  'payments.charge',
  Type.Object({ ...Money.properties, source: Type.String() }),
  untilAnswered,
)

/** Takes a payment back, or prevents it if it was not made yet. */
export const reverse = defineJob('payments.reverse', Money, untilAnswered)

export type Money = Static<typeof Money>

/** `void`: it was prevented. */
export const PaymentState = Type.Union([
  Type.Literal('captured'),
  Type.Literal('declined'),
  Type.Literal('refunded'),
  Type.Literal('void'),
])
export type PaymentState = Static<typeof PaymentState>

/** Keyed by the order: `refunded` always comes after `captured`. */
export const PaymentChanged = defineEvent('payments.changed', Type.Object({ orderId: OrderId, state: PaymentState }))
