import { defineApp, defineCalls, defineModule, RungError } from 'rung'
import { Type } from 'typebox'

export const stockCalls = defineCalls('stock', {
  levels: {
    input: Type.Object({ ids: Type.Array(Type.Integer()) }),
    output: Type.Array(Type.Object({ id: Type.Integer(), n: Type.Integer() })),
  },
})

/** A small app of two modules for tests of the runtime: one that behaves, one that reaches over its border. */
export const stock = defineModule({
  name: 'stock',
  owner: 'warehouse',
  migrations: new URL('./stock/migrations/', import.meta.url),
  exposes: stockCalls,
  calls: ({ data }) => ({
    levels: ({ ids }) =>
      data.read(
        (sql) => sql<{ id: number; n: number }>`select id, n from stock.item where id = any(${ids}) order by id`,
      ),
  }),
  routes(http, { data }) {
    const Item = Type.Object({ id: Type.Integer({ minimum: 1 }), n: Type.Integer() })
    http.post('/items', { schema: { body: Item, response: { 201: Item } } }, async (request, reply) => {
      const { id, n } = request.body
      await data.write((tx) => tx`insert into stock.item (id, n) values (${id}, ${n})`)
      return reply.status(201).send(request.body)
    })
    http.get(
      '/items/:id',
      { schema: { params: Type.Object({ id: Type.Integer() }), response: { 200: Item } } },
      async (request) => {
        const [item] = await data.read(
          (sql) => sql<{ id: number; n: number }>`select id, n from stock.item where id = ${request.params.id}`,
        )
        if (!item) throw new RungError('HTTP_NOT_FOUND', 'There is no such item.')
        return item
      },
    )
    http.get('/n-plus-one', async () => {
      for (let id = 1; id <= 12; id += 1) {
        await data.read((sql) => sql`select n from stock.item where id = ${id}`) // the place that is found
      }
      return 'ok'
    })
    http.get('/slow-statement', async () => {
      await data.read((sql) => sql`select id, pg_sleep(0.15) from stock.item limit 1`)
      return 'ok'
    })
    http.get('/sleep', async () => {
      await data.read((sql) => sql`select pg_sleep(600)`)
      return 'ok'
    })
    http.get('/fault', async () => {
      throw new Error('the password is hunter2')
    })
    http.get('/caused', async () => {
      try {
        throw new TypeError('not a number')
      } catch (cause) {
        throw new Error('no report was made', { cause })
      }
    })
    http.get('/refuse/:status', { schema: { params: Type.Object({ status: Type.Integer() }) } }, async (request) => {
      throw Object.assign(new Error('as a plugin does it'), { statusCode: request.params.status })
    })
    http.get('/locked', async () => {
      await data.read((sql) => sql`select pg_advisory_xact_lock_shared(4711)`)
      return 'ok'
    })
  },
})

export const orders = defineModule({
  name: 'orders',
  owner: 'sales',
  migrations: new URL('./orders/migrations/', import.meta.url),
  uses: { stock: stockCalls },
  routes(http, { data, calls }) {
    http.get('/levels', async () => calls.stock.levels({ ids: [1, 2] }))
    http.get('/across', async () => data.read((sql) => sql`select count(*)::int as n from stock.item`))
    http.get('/unqualified', async () => data.read((sql) => sql`select * from placed`))
    http.get('/call-in-transaction', async () => data.write(() => calls.stock.levels({ ids: [1] })))
  },
})

export default defineApp({
  name: 'shop',
  modules: [orders, stock],
  http: { requestTimeout: '2s', cors: ['https://shop.example'] },
})
