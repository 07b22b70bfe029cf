import { threadId } from 'node:worker_threads'
import { defineApp, defineJob, defineModule, handle, RungError } from 'rung'
import { Type } from 'typebox'
import { countView } from './views.ts'

const Note = Type.Object({ text: Type.String() })
const tell = defineJob('tell', Note)

/** An app whose tests are run on two nodes. */
const notes = defineModule({
  name: 'notes',
  owner: 'everybody',
  migrations: new URL('./migrations/', import.meta.url),
  routes(http, { data, cache, sessions }) {
    http.get('/node', async () => ({ node: threadId }))
    http.get('/views', async () => ({ views: countView('/') }))
    http.get('/cookie', async ({ headers }) => ({ cookie: headers.cookie }))
    http.get('/time', async () => ({ at: Date.now() }))
    http.get('/me', async (request) => {
      const session = await sessions.of(request)
      if (!session) throw new RungError('HTTP_UNAUTHORIZED', 'Sign in first.')
      return { id: session.principal }
    })
    http.post('/sign-out', async (request, reply) => {
      await sessions.signOut(request, reply)
      return reply.status(204).send()
    })
    http.get('/notes', () =>
      cache.get('all', { ttl: '1h', tags: ['notes'] }, () =>
        data.read((sql) => sql`select text from notes.note order by id`),
      ),
    )
    http.post('/notes', { schema: { body: Note } }, async ({ body }, reply) => {
      await data.write(async (tx) => {
        await tx`insert into notes.note (text) values (${body.text})`
        tx.invalidate(['notes'])
        tx.enqueue(tell, body)
      })
      return reply.status(201).send(body)
    })
  },
  work: ({ data, mail }) => [
    handle(tell, async ({ text }) => {
      await mail.send({ to: 'ann@example.org', subject: text, text })
      await data.write(async (tx) => {
        await tx`update notes.note set text = text || ' (told)' where text = ${text}`
        tx.invalidate(['notes'])
      })
    }),
  ],
})

export default defineApp({ name: 'notes', modules: [notes], sessions: {} })
