import { outgoing } from 'rung'
import { type Static, Type } from 'typebox'
import { Check } from 'typebox/value'
import { Amount, Currency, OrderId } from '../schemas.ts'
import { type Money, PaymentState } from './contract.ts'

/** A charge as the provider describes it, in its answers and its webhooks. `key` is the one that we gave it: the order's id. */
export const Charge = Type.Object({
  id: Type.String(),
  key: OrderId,
  amount: Amount,
  currency: Currency,
  status: PaymentState,
})
export type Charge = Static<typeof Charge>

export interface Provider {
  charge(payment: Money & { source: string }): Promise<Charge>
  reverse(payment: Money): Promise<Charge>
}

/**
 * The payment provider at `SHOP_PROVIDER_URL`. Both requests are idempotent by the order's id: however often they are sent, the customer
 * is charged once. So whatever fails may be asked again.
 */
export function paymentProvider(origin = process.env.SHOP_PROVIDER_URL ?? 'http://127.0.0.1:4100'): Provider {
  const provider = outgoing('payment-provider', { timeout: '5s', concurrency: 20 })

  async function put(path: string, body: object): Promise<Charge> {
    const request = { method: 'PUT', headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) }
    const send = async (signal: AbortSignal) => {
      const response = await fetch(new URL(path, origin), { ...request, signal })
      if (!response.ok) throw new Error(`The payment provider answered ${response.status}.`)
      return response.json() as Promise<unknown>
    }
    const answer = await provider.call(send, { idempotent: true })
    if (!Check(Charge, answer)) throw new Error('The payment provider answered something that is not a charge.')
    return answer
  }

  return {
    charge: ({ orderId, ...payment }) => put(`/charges/${orderId}`, payment),
    reverse: ({ orderId, ...payment }) => put(`/charges/${orderId}/reversal`, payment),
  }
}
