import { type Data, type JobRun, RungError, type Tx } from 'rung'
import { type Money, PaymentChanged, type PaymentState } from './contract.ts'
import type { Charge } from './provider.ts'

/**
 * Asks the provider and records its answer. A time-out leaves the payment `asked`, and the job asks again; meanwhile a webhook may have
 * said what became of it.
 */
export async function askProvider(
  data: Data,
  run: JobRun<Tx>,
  { orderId, amount, currency }: Money,
  ask: () => Promise<Charge>,
): Promise<void> {
  await data.write(
    (tx) => tx`
      insert into payments.payment (order_id, amount, currency) values (${orderId}, ${amount}, ${currency})
      on conflict (order_id) do nothing`,
  )
  const charge = await ask() // outside of any transaction: it takes as long as it takes
  await run.complete((tx) => record(tx, charge))
}

/** A state is only ever replaced by a later one, so that reports may come twice and in any order. */
const rank: Record<PaymentState | 'asked', number> = { asked: 0, captured: 1, declined: 2, refunded: 2, void: 2 }

/** Records what the provider says of a charge, from whichever side it comes first. */
export async function record(tx: Tx, { key: orderId, amount, currency, status }: Charge): Promise<void> {
  const [payment] = await tx<Omit<Money, 'orderId'> & { state: PaymentState | 'asked' }>`
    select state, amount, currency from payments.payment where order_id = ${orderId} for update`
  if (!payment) throw new RungError('HTTP_NOT_FOUND', `Nobody asked for a payment of order ${orderId}.`)
  if (payment.amount !== amount || payment.currency !== currency)
    throw new RungError('HTTP_CONFLICT', `The charge of order ${orderId} is not of the amount that was asked for.`)
  if (rank[status] <= rank[payment.state]) return
  await tx`update payments.payment set state = ${status} where order_id = ${orderId}`
  // Whoever hears of a refund has heard of the charge.
  const news: PaymentState[] = status === 'refunded' && payment.state === 'asked' ? ['captured', status] : [status]
  for (const state of news) tx.publish(PaymentChanged, { orderId, state }, { key: orderId })
}

/** Handles an event of the provider; the same id again does nothing. */
export async function takeEvent(data: Data, { id, charge }: { id: string; charge: Charge }): Promise<void> {
  await data.write(async (tx) => {
    const [isNew] = await tx`insert into payments.webhook_event (id) values (${id}) on conflict do nothing returning id`
    if (isNew) await record(tx, charge)
  })
}

/** Longer than the provider repeats an event. */
export async function forgetEvents(tx: Tx): Promise<void> {
  await tx`
    delete from payments.webhook_event where id in (
      select id from payments.webhook_event where received_at < now() - interval '30 days' limit 10000)`
}
