import { defineApp, defineCalls, defineEvent, defineJob, defineModule, handle, on } from 'rung'
import { Type } from 'typebox'

/** Two modules, each of which may have a database of its own. */

const Id = Type.Object({ id: Type.Integer() })
const quick = { attempts: 1_000, backoff: { base: 5, max: 50 } }

export const OrderPlaced = defineEvent('orders.placed', Id)
export const InvoiceSent = defineEvent('billing.sent', Type.Object({ id: Type.Integer(), order: Type.Integer() }))
/** Enqueued by orders, done by billing. */
export const remind = defineJob('billing.remind', Id, quick)

const orderCalls = defineCalls('orders', {
  note: { input: Id, output: Type.String() },
  rename: { input: Type.Object({ id: Type.Integer(), note: Type.String() }), output: Type.Null() },
})

const orders = defineModule({
  name: 'orders',
  owner: 'tests',
  migrations: new URL('./orders/', import.meta.url),
  exposes: orderCalls,
  calls: ({ data }) => ({
    async note({ id }) {
      const [row] = await data.read((sql) => sql<{ note: string }>`select note from orders.placed where id = ${id}`)
      return row?.note ?? ''
    },
    async rename({ id, note }) {
      await data.write(async (tx) => {
        await tx`update orders.placed set note = ${note} where id = ${id}`
        tx.invalidate([`order:${id}`])
      })
      return null
    },
  }),
  routes(http, { data }) {
    http.post('/orders', { config: { idempotency: 'optional' } }, async ({ body }) => {
      const { note = 'a note' } = (body ?? {}) as { note?: string }
      return data.write(async (tx) => {
        const [row] = await tx<{ id: string }>`insert into orders.placed (note) values (${note}) returning id`
        const id = Number(row!.id)
        tx.publish(OrderPlaced, { id }, { key: id % 3 })
        tx.enqueue(remind, { id })
        tx.invalidate([`order:${id}`])
        return { id }
      })
    })
    http.get('/orders/:id', async ({ params }) => {
      const { id } = params as { id: string }
      const rows = await data.read((sql) => sql<{ note: string }>`select note from orders.placed where id = ${id}`)
      return { note: rows[0]?.note ?? null }
    })
    http.get('/orders/:id/paid', async ({ params }) => {
      const { id } = params as { id: string }
      const rows = await data.write(
        (tx) => tx<{ invoice: string }>`select invoice from orders.paid where order_id = ${id}`,
      )
      return rows.map(({ invoice }) => Number(invoice))
    })
  },
  // The event is in the other database; what is written here is in this one.
  work: () => [
    on(
      InvoiceSent,
      async ({ payload }, tx) => {
        await tx`insert into orders.paid (order_id, invoice) values (${payload.order}, ${payload.id})`
      },
      quick,
    ),
  ],
})

const billing = defineModule({
  name: 'billing',
  owner: 'tests',
  migrations: new URL('./billing/', import.meta.url),
  uses: { orders: orderCalls },
  routes(http, { data, calls, cache }) {
    http.get('/invoices/:order', async ({ params }) => {
      const { order } = params as { order: string }
      const rows = await data.write(
        (tx) => tx<{ id: string }>`select id from billing.invoice where order_id = ${order}`,
      )
      return rows.map(({ id }) => Number(id))
    })
    http.get('/reminders/:order', async ({ params }) => {
      const { order } = params as { order: string }
      const rows = await data.write(
        (tx) => tx<{ kind: string }>`select kind from billing.reminder where order_id = ${order} order by kind`,
      )
      return rows.map(({ kind }) => kind)
    })
    /** A value of this module, loaded from the other one. */
    http.get('/cached/:id', async ({ params }) => {
      const { id } = params as { id: string }
      return {
        note: await cache.get(`note:${id}`, { ttl: '1h', tags: [`note:${id}`] }, () =>
          calls.orders.note({ id: Number(id) }),
        ),
      }
    })
    /** Writes in one database and then in the other, in one request. */
    http.post('/rename/:id', { config: { idempotency: 'optional' } }, async ({ params, body }) => {
      const { id } = params as { id: string }
      const { note, failAfter, decideByRead } = body as { note: string; failAfter?: string; decideByRead?: boolean }
      if (!(decideByRead && failed.has(note))) {
        await data.write((tx) => tx`insert into billing.reminder (order_id, kind) values (${id}, 'renamed')`)
      }
      const gate = gates.get(note)
      gates.delete(note)
      if (gate) await gate()
      if (failAfter === 'billing' && !failed.has(note)) {
        failed.add(note)
        throw new Error('the process fails here')
      }
      await calls.orders.rename({ id: Number(id), note })
      await data.write(async (tx) => tx.invalidate([`note:${id}`]), { step: 'invalidate' })
      return { id }
    })
    /** Wrong: a write of another database inside of one. */
    http.post('/wrong/:id', async ({ params }) => {
      const { id } = params as { id: string }
      return data.write(async () => calls.orders.rename({ id: Number(id), note: 'wrong' }))
    })
  },
  work: ({ data }) => [
    on(
      OrderPlaced,
      async ({ payload }, tx) => {
        const [row] = await tx<{
          id: string
        }>`insert into billing.invoice (order_id) values (${payload.id}) returning id`
        tx.publish(InvoiceSent, { id: Number(row!.id), order: payload.id })
      },
      quick,
    ),
    handle(remind, async ({ id }, run) => {
      await data.write((tx) => tx`insert into billing.reminder (order_id, kind) values (${id}, 'tried')`)
      await run.complete((tx) => tx`insert into billing.reminder (order_id, kind) values (${id}, 'sent')`)
    }),
  ],
})
const failed = new Set<string>()
/** The first request with the note waits here after its write in billing. */
export const gates = new Map<string, () => Promise<void>>()

export const modules = [orders, billing]
export default defineApp({ name: 'two-databases', modules })
