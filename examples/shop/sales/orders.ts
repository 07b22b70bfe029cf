import { randomUUID } from 'node:crypto'
import { type Data, defineJob, RungError, type Sql, sql, type Tx } from 'rung'
import { Type } from 'typebox'
import type { Caller } from '../caller.ts'
import { charge, type PaymentState, reverse } from '../payments/contract.ts'
import { OrderId } from '../schemas.ts'
import { transfer } from './ledger.ts'
import type { NewOrder } from './shapes.ts'

/** For this long an order keeps its stock without being paid. */
const reservedFor = '15m'

export const expire = defineJob('sales.expire', Type.Object({ orderId: OrderId }), { attempts: 100 })

export interface Line {
  sku: string
  name: string
  price: number
  quantity: number
}

export interface OrderRow {
  id: string
  number: number
  state: 'placed' | 'paid' | 'shipped' | 'declined' | 'cancelled' | 'expired'
  currency: string
  total: number
  lines: Line[]
  placed_at: Date
}

const columns = sql`id, number, state, currency, total, placed_at,
  (select json_agg(json_build_object('sku', sku, 'name', name, 'price', price, 'quantity', quantity) order by sku)
    from sales.order_line where order_id = customer_order.id) as lines`

export const present = ({ placed_at, ...order }: OrderRow) => ({ ...order, placedAt: placed_at.toISOString() })

/** A shop sees its orders, a customer their own. */
const ownedBy = ({ tenantId, customerId }: Caller): Sql =>
  sql`tenant_id = ${tenantId} and ${customerId === undefined ? sql`true` : sql`customer_id = ${customerId}`}`

/** Products are locked in this order, here and at their return, so that no two transactions wait for each other. */
const bySku = (a: { sku: string }, b: { sku: string }) => (a.sku < b.sku ? -1 : 1)

/**
 * Reserves stock, sets the prices of this moment, and has the payment asked for, all in one transaction. Each line is one conditional
 * update: it takes the stock if there is enough, and otherwise nothing of the order happens.
 */
export async function placeOrder(
  data: Data,
  { tenantId, customerId }: { tenantId: number; customerId: number },
  { lines, source }: NewOrder,
): Promise<OrderRow> {
  const asked = oncePerSku(lines)
  return data.write(async (tx) => {
    const taken = await Promise.all(
      asked.map(({ sku, quantity }) =>
        tx<Line & { currency: string }>`
          update sales.product set available = available - ${quantity}::int
          where tenant_id = ${tenantId} and sku = ${sku} and available >= ${quantity}::int
          returning sku, name, price, ${quantity}::int as quantity, currency`.first(),
      ),
    )
    const found = taken.filter((line) => line !== undefined)
    if (found.length < asked.length) {
      const unavailable = asked.filter((_, n) => taken[n] === undefined).map(({ sku }) => sku)
      throw new RungError('HTTP_CONFLICT', `There is not enough of ${unavailable.join(', ')}.`, {
        facts: { unavailable },
      })
    }
    const [{ currency }] = found as [(typeof found)[0]]
    if (found.some((line) => line.currency !== currency))
      throw new RungError('HTTP_CONFLICT', 'The products have prices in different currencies. Order them separately.')

    const id = randomUUID()
    const total = found.reduce((sum, { price, quantity }) => sum + price * quantity, 0)
    const [[row]] = await Promise.all([
      tx<Pick<OrderRow, 'number' | 'state' | 'placed_at'>>`
        insert into sales.customer_order (id, tenant_id, customer_id, currency, total)
        values (${id}, ${tenantId}, ${customerId}, ${currency}, ${total}) returning number, state, placed_at`,
      tx`
        insert into sales.order_line (order_id, sku, name, price, quantity)
        select ${id}, * from unnest(${found.map(({ sku }) => sku)}::text[], ${found.map(({ name }) => name)}::text[],
          ${found.map(({ price }) => price)}::bigint[], ${found.map(({ quantity }) => quantity)}::int[])`,
    ])
    tx.enqueue(charge, { orderId: id, amount: total, currency, source })
    tx.enqueue(expire, { orderId: id }, { delay: reservedFor })
    return { id, currency, total, lines: found.map(({ currency: _, ...line }) => line), ...row! }
  })
}

export async function findOrder(data: Data, caller: Caller, id: string): Promise<OrderRow> {
  const [row] = await data.read(
    (sql) => sql<OrderRow>`select ${columns} from sales.customer_order where id = ${id} and ${ownedBy(caller)}`,
  )
  if (!row) throw missing(id)
  return row
}

export async function listOrders(
  data: Data,
  caller: Caller,
  { after, limit }: { after: number; limit: number },
): Promise<OrderRow[]> {
  return data.read(
    (sql) => sql<OrderRow>`
      select ${columns} from sales.customer_order where ${ownedBy(caller)} and number > ${after} order by number limit ${limit}`,
  )
}

/** Returns the stock at once, and what was paid as soon as the provider has confirmed it. */
export async function cancelOrder(data: Data, caller: Caller, id: string): Promise<OrderRow> {
  return data.write(async (tx) => {
    const order = await locked(tx, id, ownedBy(caller))
    if (!order) throw missing(id)
    if (order.state === 'cancelled') return order
    if (order.state !== 'placed' && order.state !== 'paid') throw conflict(order, 'cancelled')
    return giveBack(tx, order, 'cancelled')
  })
}

export async function shipOrder(data: Data, caller: Caller, id: string): Promise<OrderRow> {
  return data.write(async (tx) => {
    const order = await locked(tx, id, ownedBy(caller))
    if (!order) throw missing(id)
    if (order.state === 'shipped') return order
    if (order.state !== 'paid') throw conflict(order, 'shipped')
    await transfer(tx, id, 'release', 'held', 'earned')
    return moved(tx, order, 'shipped')
  })
}

/** Ends an order that nobody has paid in time. */
export async function expireOrder(tx: Tx, id: string): Promise<void> {
  const order = await locked(tx, id)
  if (order?.state === 'placed') await giveBack(tx, order, 'expired')
}

/**
 * What became of the payment. It may come after the order was cancelled or has expired: then the money is on its way back already,
 * and the ledger says that it came and went.
 */
export async function settleOrder(tx: Tx, id: string, payment: PaymentState): Promise<void> {
  const order = await locked(tx, id)
  if (!order) throw missing(id)
  const isOpen = order.state === 'placed' || order.state === 'paid'
  if (payment === 'captured') {
    if (order.state === 'placed') await moved(tx, order, 'paid')
    await transfer(tx, id, 'capture', 'provider', 'held')
  } else if (payment === 'declined') {
    if (order.state === 'placed') await ended(tx, order, 'declined')
  } else if (payment === 'refunded') {
    if (isOpen) await ended(tx, order, 'cancelled') // the provider has done it by itself
    await transfer(tx, id, 'refund', order.state === 'shipped' ? 'earned' : 'held', 'provider')
  }
}

/** The order, and nobody else decides about it until this transaction ends. */
function locked(tx: Tx, id: string, owned: Sql = sql`true`): Promise<OrderRow | undefined> {
  return tx<OrderRow>`select ${columns} from sales.customer_order where id = ${id} and ${owned} for update`.first()
}

async function moved(tx: Tx, order: OrderRow, state: OrderRow['state']): Promise<OrderRow> {
  await tx`update sales.customer_order set state = ${state} where id = ${order.id}`
  return { ...order, state }
}

/** Moves an order to its end and returns its stock. */
async function ended(tx: Tx, order: OrderRow, state: OrderRow['state']): Promise<OrderRow> {
  await Promise.all(
    order.lines.toSorted(bySku).map(({ sku, quantity }) =>
      tx`
        update sales.product set available = available + ${quantity}::int where sku = ${sku}
        and tenant_id = (select tenant_id from sales.customer_order where id = ${order.id})`.run(),
    ),
  )
  return moved(tx, order, state)
}

/** The provider is asked to take the payment back, or never to make it, whatever has become of it so far. */
function giveBack(tx: Tx, order: OrderRow, state: 'cancelled' | 'expired'): Promise<OrderRow> {
  tx.enqueue(reverse, { orderId: order.id, amount: order.total, currency: order.currency })
  return ended(tx, order, state)
}

function oncePerSku(lines: NewOrder['lines']): NewOrder['lines'] {
  const quantities = new Map<string, number>()
  for (const { sku, quantity } of lines) quantities.set(sku, (quantities.get(sku) ?? 0) + quantity)
  return [...quantities].map(([sku, quantity]) => ({ sku, quantity })).sort(bySku)
}

const missing = (id: string) => new RungError('HTTP_NOT_FOUND', `There is no order ${id}.`)
const conflict = (order: OrderRow, to: string) =>
  new RungError('HTTP_CONFLICT', `Order ${order.number} is ${order.state} and cannot be ${to}.`, {
    facts: { state: order.state },
  })
