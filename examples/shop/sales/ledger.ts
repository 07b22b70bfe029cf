import type { Data, Tx } from 'rung'
import type { Static } from 'typebox'
import type { Entry } from './shapes.ts'

/**
 * Moves an order's total from one account to another: `capture` from the provider to what is held for the shop, `release` from there to
 * what the shop has earned, `refund` back to the provider. What leaves one account enters the other in the same statement, so that
 * all entries together are 0 at any time.
 */
export async function transfer(
  tx: Tx,
  orderId: string,
  name: 'capture' | 'release' | 'refund',
  from: 'provider' | 'held' | 'earned',
  to: 'provider' | 'held' | 'earned',
): Promise<void> {
  await tx`
    insert into sales.ledger_entry (tenant_id, order_id, transfer, account, amount, currency)
    select tenant_id, id, ${name}, account, sign * total, currency
    from sales.customer_order, (values (${from}::text, -1), (${to}::text, 1)) side (account, sign) where id = ${orderId}`
}

export async function entriesOf(
  data: Data,
  tenantId: number,
  { after, limit }: { after: number; limit: number },
): Promise<Static<typeof Entry>[]> {
  return data.read(
    (sql) => sql<Static<typeof Entry>>`
      select id, order_id as "orderId", transfer, account, amount, currency
      from sales.ledger_entry where tenant_id = ${tenantId} and id > ${after} order by id limit ${limit}`,
  )
}
