import { on, type Tx } from '../../src/app/work.ts'
import { type AppWork, addWork } from '../../src/runtime/work.ts'
import { OrderPlaced, type openOrders } from '../../test/support/order-work.ts'

/** What follows an order: four modules each write a few rows in a transaction of their own. */
export const groups = ['billing', 'stats', 'notifications', 'search'] as const

export async function follow(tx: Tx, group: string, id: number): Promise<void> {
  for (let row = 0; row < 3; row += 1) {
    await tx`insert into orders.effect (kind, order_id, key) values (${group}, ${id}, ${String(row)})`
  }
}

export function eventsWork({ primitives }: Pick<Awaited<ReturnType<typeof openOrders>>, 'primitives'>): AppWork {
  const work: AppWork = { jobs: [], consumed: [], crons: [] }
  addWork(
    work,
    'orders',
    groups.map((group) => on(OrderPlaced, ({ payload }, tx) => follow(tx, group, payload.id), { group })),
    primitives,
  )
  return work
}
