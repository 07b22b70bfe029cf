import { defineApp, defineModule } from 'rung'
import { Type } from 'typebox'

const Id = Type.Object({ id: Type.String({ minLength: 1, maxLength: 100 }) })
const Entry = Type.Object({ ...Id.properties, body: Type.Optional(Type.String({ maxLength: 1_000_000 })) })

/** An app to be killed: what it acknowledges is in two tables or in none. */
const ledger = defineModule({
  name: 'ledger',
  owner: 'tests',
  migrations: new URL(process.env.LEDGER_MIGRATIONS ?? './migrations/', import.meta.url),

  routes(http, { data }) {
    http.post('/entries', { schema: { body: Entry } }, async (request, reply) => {
      const { id, body = '' } = request.body
      await data.write(async (tx) => {
        await tx`insert into ledger.entry (id, body) values (${id}, ${body})`
        await tx`insert into ledger.receipt (entry_id) values (${id})`
      })
      return reply.status(201).send({ id })
    })

    http.get('/entries', () =>
      data.read(
        (sql) =>
          sql`select id, octet_length(body) as length, r.entry_id is not null as received
            from ledger.entry left join ledger.receipt r on r.entry_id = id order by id`,
      ),
    )

    http.get('/entries/:id', { schema: { params: Id } }, async (request, reply) => {
      const { id } = request.params
      const [entry] = await data.read(
        (sql) => sql`select id, octet_length(body) as length from ledger.entry where id = ${id}`,
      )
      return entry ?? reply.status(404).send({ id })
    })

    http.delete('/entries/:id', { schema: { params: Id } }, async (request, reply) => {
      const { id } = request.params
      await data.write(async (tx) => {
        await tx`delete from ledger.receipt where entry_id = ${id}`
        await tx`delete from ledger.entry where id = ${id}`
      })
      return reply.status(204).send()
    })

    /** Answers once nobody holds this advisory lock, also when one statement may not wait so long. */
    http.get('/held/:key', { schema: { params: Type.Object({ key: Type.Integer() }) } }, async (request) => {
      const { key } = request.params
      for (;;) {
        try {
          await data.read((sql) => sql`select pg_advisory_xact_lock(${key})`)
          return { key }
        } catch (error) {
          if ((error as { code?: string }).code !== 'DATA_LOCK_TIMEOUT') throw error
        }
      }
    })
  },
})

export default defineApp({ name: 'ledger', modules: [ledger] })
