import { defineApp, defineModule } from 'rung'
import { Type } from 'typebox'

const params = Type.Object({ name: Type.String() })
const querystring = Type.Object({ gate: Type.Optional(Type.String()) })

/** What answers wait for, in this process. */
export const gates = new Map<string, Promise<void>>()

export const limit = { max: 5, windowMs: 1_000 } as const

/** Counters, read plainly and through the cache; effects that shall happen once; a route with a limit. */
const web = defineModule({
  name: 'web',
  owner: 'tests',
  migrations: new URL('./migrations/', import.meta.url),

  identify: () => (request) => {
    const name = request.headers.authorization
    return name === undefined ? undefined : { id: name }
  },

  routes(http, { data, cache }) {
    const read = async (name: string) => {
      const [row] = await data.read((sql) => sql<{ n: number }>`select n from web.counter where name = ${name}`)
      return row?.n ?? 0
    }

    /** The answer may come later than that of a request that was sent after it. */
    http.get('/counters/:name', { schema: { params, querystring } }, async ({ params: { name }, query: { gate } }) => {
      const n = await read(name)
      if (gate) await gates.get(gate)
      return { n }
    })

    http.get('/cached/:name', { schema: { params } }, async ({ params: { name } }) => ({
      n: await cache.get(name, { ttl: '1h', tags: [name] }, () => read(name)),
    }))

    http.post('/counters/:name', { schema: { params } }, ({ params: { name } }) =>
      data.write(async (tx) => {
        const [row] = await tx<{ n: number }>`insert into web.counter as counter (name, n) values (${name}, 1)
          on conflict (name) do update set n = counter.n + 1 returning n`
        tx.invalidate([name])
        return row
      }),
    )

    /** Fails now and then behind its write. */
    const once = { config: { idempotency: 'required' }, schema: { body: Type.Object({ key: Type.String() }) } } as const
    http.post('/effects', once, async ({ body: { key }, headers: { authorization } }) => {
      await new Promise((resolve) => setTimeout(resolve, 10))
      await data.write((tx) => tx`insert into web.effect (key) values (${`${authorization}: ${key}`})`)
      if (Math.random() < 0.3) throw new Error('behind the write')
      return { answer: Math.random() }
    })

    http.get('/effects', async () => ({
      keys: await data.write(async (tx) =>
        (await tx<{ key: string }>`select key from web.effect`).map(({ key }) => key),
      ),
    }))

    const limits = { max: limit.max, per: '1s', by: 'everyone' } as const
    http.get('/limited', { config: { limits } }, async () => ({}))
  },
})

export default defineApp({
  name: 'plants',
  modules: [web],
  limits: { user: false, address: false },
  idempotency: { lease: '300ms' },
})
