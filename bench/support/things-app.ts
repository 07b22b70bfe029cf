import { defineApp, defineModule } from 'rung'
import { Type } from 'typebox'

/** A row that changes, and a route that gives it from the cache. */
const params = Type.Object({ id: Type.Integer({ minimum: 0, maximum: 999_999 }) })

const things = defineModule({
  name: 'things',
  owner: 'bench',
  migrations: new URL('./things-migrations/', import.meta.url),
  routes(http, { data, cache }) {
    http.get('/things/:id', { schema: { params } }, async ({ params: { id } }) => {
      const version = await cache.get(`thing:${id}`, { ttl: '1h', tags: [`thing:${id}`] }, async () => {
        const [row] = await data.read(
          (sql) => sql<{ version: number }>`select version from things.thing where id = ${id}`,
        )
        return row?.version ?? 0
      })
      return { version }
    })

    http.post('/things/:id', { schema: { params } }, ({ params: { id } }) =>
      data.write(async (tx) => {
        const [row] = await tx<{ version: number }>`
          insert into things.thing (id, version) values (${id}, 1)
          on conflict (id) do update set version = thing.version + 1 returning version`
        tx.invalidate([`thing:${id}`])
        return row
      }),
    )
  },
})

export default defineApp({ name: 'things-bench', modules: [things] })
