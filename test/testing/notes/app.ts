import { defineApp, defineJob, defineModule, handle } from 'rung'
import { Type } from 'typebox'

const Note = Type.Object({ text: Type.String() })
export const copy = defineJob('copy', Note)

/** An app whose tests are run against a late replica. */
const notes = defineModule({
  name: 'notes',
  owner: 'everybody',
  migrations: new URL('./migrations/', import.meta.url),
  routes(http, { data }) {
    http.get('/notes', () => data.read((sql) => sql`select text from notes.note order by id`))
    http.get('/report', () => data.read((sql) => sql`select text from notes.note`, { target: 'reports' }))
    http.post('/notes', { schema: { body: Note } }, async ({ body }, reply) => {
      await data.write(async (tx) => {
        await tx`insert into notes.note (text) values (${body.text})`
        tx.enqueue(copy, { text: `${body.text} again` })
      })
      return reply.status(201).send(body)
    })
  },
  work: ({ data }) => [
    handle(copy, async ({ text }) => {
      const before = await data.read((sql) => sql`select from notes.note where text || ' again' = ${text}`)
      if (before.length === 0) throw new Error('the job does not see what its producer has written')
      await data.write((tx) => tx`insert into notes.note (text) values (${text})`)
    }),
  ],
})

export default defineApp({ name: 'notes', modules: [notes], sessions: { idle: '7d' } })
