import { defineApp, defineEvent, defineJob, defineModule, handle, on } from 'rung'
import { Type } from 'typebox'

const OrderPlaced = defineEvent('orders.placed', Type.Object({ id: Type.Integer() }))
const shipOrder = defineJob('orders.ship', Type.Object({ id: Type.Integer(), note: Type.String() }), {
  attempts: 2,
  backoff: { base: 10, max: 20 },
})

const orders = defineModule({
  name: 'orders',
  owner: 'tests',
  migrations: new URL('./migrations/', import.meta.url),

  routes(http, { data }) {
    const Order = Type.Object({ note: Type.String() })
    http.post('/orders', { schema: { body: Order } }, async ({ body: { note } }, reply) => {
      const id = await data.write(async (tx) => {
        const [row] = await tx<{ id: number }>`insert into orders.placed (note) values (${note}) returning id`
        tx.publish(OrderPlaced, { id: row!.id }, { key: row!.id })
        tx.enqueue(shipOrder, { id: row!.id, note })
        return row!.id
      })
      return reply.status(201).send({ id })
    })
    http.get(
      '/effects/:id',
      { schema: { params: Type.Object({ id: Type.Integer() }) } },
      async ({ params: { id } }) => {
        const rows = await data.read(
          (sql) => sql<{ kind: string }>`select kind from orders.effect where order_id = ${id} order by kind`,
        )
        return rows.map(({ kind }) => kind)
      },
    )
  },

  work: () => [
    handle(shipOrder, async ({ id, note }, run) => {
      if (note === 'poison') throw new Error('nobody can ship this')
      await run.complete((tx) => tx`insert into orders.effect (kind, order_id) values ('shipped', ${id})`)
    }),
    on(
      OrderPlaced,
      ({ payload }, tx) => tx`insert into orders.effect (kind, order_id) values ('billed', ${payload.id})`,
      {
        group: 'billing',
      },
    ),
  ],
})

export default defineApp({ name: 'orders', modules: [orders] })
