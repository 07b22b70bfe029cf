import { cron, defineApp, defineEvent, defineJob, defineModule, handle, html, on, RungError } from 'rung'
import { Type } from 'typebox'

/** An app as somebody outside of the repository writes it: what the kit is tried with. */
const itemAdded = defineEvent('shop.item-added', Type.Object({ name: Type.String() }))
export const announce = defineJob('announce', Type.Object({ name: Type.String(), again: Type.Integer() }))
export const fail = defineJob('fail', Type.Object({ text: Type.String() }), { attempts: 2 })
export const forever = defineJob('forever', Type.Object({}))
const report = defineJob('report', Type.Object({}))

const shop = defineModule({
  name: 'shop',
  owner: 'sellers',
  migrations: new URL('./migrations/', import.meta.url),
  routes(http, { data, cache, sessions }) {
    let loads = 0
    http.post('/items', { schema: { body: Type.Object({ name: Type.String() }) } }, async (request, reply) => {
      const { name } = request.body
      await data.write(async (tx) => {
        await tx`insert into shop.item (name) values (${name})`
        tx.publish(itemAdded, { name })
      })
      return reply.status(201).send({ name })
    })
    http.get('/items/recent', () =>
      data.read(
        (sql) =>
          sql<{ name: string }>`select name from shop.item where created_at > now() - interval '1 day' order by id`,
      ),
    )
    http.get('/me', async (request) => {
      const session = await sessions.of(request)
      if (!session) throw new RungError('HTTP_UNAUTHORIZED', 'Sign in first.')
      return { id: session.principal, plan: session.plan ?? null }
    })
    http.post('/sign-out', async (request, reply) => {
      await sessions.signOut(request, reply)
      return reply.status(204).send()
    })
    http.post('/pay', { config: { idempotency: 'required' } }, () => data.write(() => ({ at: Date.now() })))
    http.get('/limited', { config: { limits: { max: 1, per: '1h' } } }, async () => ({ ok: true }))
    http.get('/loads', () =>
      cache.get('loads', { ttl: '5m', grace: 0 }, async () => {
        loads += 1
        return loads
      }),
    )
    http.get('/broken', async () => {
      throw new Error('the till is jammed')
    })
    http.get('/text', (_request, reply) => reply.type('text/plain').send('plain words'))
    http.get('/time', async () => ({ at: new Date().toISOString() }))
    http.get('/headers', async ({ headers }) => ({ authorization: headers.authorization ?? null }))
  },
  work: ({ data, mail }) => [
    on(itemAdded, ({ payload }, tx) => void tx.enqueue(announce, { name: payload.name, again: 1 })),
    handle(announce, async ({ name, again }) => {
      await mail.send({
        to: 'ann@example.org',
        subject: `${name} ${again}`,
        text: `There is ${name}.`,
        html: html`<b>${name}</b>`,
      })
      if (again > 0)
        await data.write(async (tx) => void tx.enqueue(announce, { name, again: again - 1 }, { delay: '10m' }))
    }),
    handle(fail, ({ text }) => {
      throw new Error(text)
    }),
    handle(forever, () => data.write(async (tx) => void tx.enqueue(forever, {}))),
    handle(report, () => data.write((tx) => tx`insert into shop.report (at) values (now())`)),
    cron('0 * * * *', report, {}),
  ],
})

export default defineApp({ name: 'shop', modules: [shop], sessions: { idle: '7d' } })
