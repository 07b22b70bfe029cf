import { Readable } from 'node:stream'
import { defineApp, defineJob, defineModule, handle, RungError } from 'rung'
import { Type } from 'typebox'

const Body = Type.Object({ key: Type.String() })
const sequel = defineJob('till.sequel', Body)

/** Payments, each to be made once. Effects are rows without any constraint, so that a doubled one shows. */
const till = defineModule({
  name: 'till',
  owner: 'tests',
  migrations: new URL('./migrations/', import.meta.url),

  identify: () => (request) => {
    const trouble = request.headers['x-identify']
    if (trouble === 'away') throw new RungError('DATA_UNAVAILABLE', 'Who asks cannot be found out. Try again.')
    if (trouble === 'refused') throw Object.assign(new Error('a token that is no good'), { statusCode: 401 })
    const name = /^User (\w+)$/.exec(request.headers.authorization ?? '')?.[1]
    return name === undefined ? undefined : { id: name, plan: name.startsWith('pro') ? 'pro' : undefined }
  },

  routes(http, { data }) {
    const once = { config: { idempotency: 'required' }, schema: { body: Body } } as const

    /** Two writes and a job; the answer holds what chance and the database have made. */
    http.post('/payments', once, async (request, reply) => {
      const { key } = request.body
      const first = await data.write(
        async (tx) => {
          const [row] = await tx<{
            id: number
          }>`insert into till.effect (kind, key) values ('first', ${key}) returning id`
          return { id: row!.id, chance: Math.random(), at: new Date() }
        },
        { step: 'first' },
      )
      const second = await data.write(
        async (tx) => {
          const [row] = await tx<{
            id: number
          }>`insert into till.effect (kind, key) values ('second', ${key}) returning id`
          tx.enqueue(sequel, { key })
          return row!.id
        },
        { step: 'second' },
      )
      return reply
        .status(201)
        .header('location', `/payments/${first.id}`)
        .send({ key, first, second, answer: Math.random() })
    })

    http.post('/optional', { ...once, config: { idempotency: 'optional' } }, async (request) => {
      await data.write((tx) => tx`insert into till.effect (kind, key) values ('optional', ${request.body.key})`)
      return { n: Math.random() }
    })

    http.delete('/payments/:id', { config: { idempotency: 'required' } }, async (_request, reply) => {
      await data.write((tx) => tx`insert into till.effect (kind, key) values ('deleted', '')`)
      return reply.status(204).send()
    })

    /** Fails as it is told, behind one write. */
    const failures = new Map<string, number>()
    http.post('/fails/:status', once, async (request) => {
      const { key } = request.body
      const id = await data.write(async (tx) => {
        const [row] = await tx<{
          id: number
        }>`insert into till.effect (kind, key) values ('fails', ${key}) returning id`
        return row!.id
      })
      const status = Number((request.params as { status: string }).status)
      failures.set(key, (failures.get(key) ?? 0) + 1)
      if (failures.get(key) === 1) throw new RungError('HTTP_REFUSED', `as told ${id} ${Math.random()}`, { status })
      return { id }
    })

    http.get('/hello', async () => ({ hello: true }))

    /** Waits for as long as it is told before it writes. */
    http.post('/slow/:ms', once, async (request) => {
      await new Promise((resolve) => setTimeout(resolve, Number((request.params as { ms: string }).ms)))
      await data.write((tx) => tx`insert into till.effect (kind, key) values ('slow', ${request.body.key})`)
      return { n: Math.random() }
    })

    /** Decides by a read outside its write: what must not be repeated blindly. */
    http.post('/diverges', once, async (request) => {
      const { key } = request.body
      const [found] = await data.read((sql) => sql`select from till.effect where key = ${key}`)
      if (!found) {
        await data.write((tx) => tx`insert into till.effect (kind, key) values ('a', ${key})`, { step: 'a' })
        throw new Error('fails here the first time')
      }
      if (key.endsWith('c')) throw new RungError('HTTP_NOT_FOUND', 'It is not there any more.')
      if (key.endsWith('b'))
        await data.write((tx) => tx`insert into till.effect (kind, key) values ('b', ${key})`, { step: 'b' })
      return {}
    })

    http.post('/unnamed', once, async (request) => {
      for (const kind of ['one', 'two']) {
        await data.write((tx) => tx`insert into till.effect (kind, key) values (${kind}, ${request.body.key})`)
      }
      return {}
    })

    http.post('/unkeepable', once, async (request) => {
      await data.write(async (tx) => {
        await tx`insert into till.effect (kind, key) values ('unkeepable', ${request.body.key})`
        return () => {}
      })
      return {}
    })

    http.post('/stream', once, async (_request, reply) => reply.send(Readable.from(['a', 'b'])))
    http.post('/empty', { config: { idempotency: 'required' } }, async () => ({ n: Math.random() }))
  },

  work: () => [
    handle(sequel, ({ key }, run) => run.complete((tx) => tx`insert into till.sequel (key) values (${key})`)),
  ],
})

export default defineApp({ name: 'till', modules: [till], idempotency: { lease: '300ms' } })
