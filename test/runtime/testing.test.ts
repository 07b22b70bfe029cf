import assert from 'node:assert/strict'
import { test } from 'node:test'
import { defineApp, defineJob, defineModule, handle } from 'rung'
import { startForTest } from 'rung/testing'
import { Type } from 'typebox'

const greet = defineJob('greet', Type.Object({ to: Type.String(), further: Type.Integer() }))
const greetings = defineModule({
  name: 'greetings',
  owner: 'tests',
  routes(http, { data }) {
    http.post('/greetings', { config: { limits: { max: 1, per: '1h' } } }, async () =>
      data.write(async (tx) => void tx.enqueue(greet, { to: 'ann@example.org', further: 2 })),
    )
  },
  work: ({ data, mail }) => [
    handle(greet, async ({ to, further }) => {
      await mail.send({ to, subject: `Hello ${further}`, text: 'Good morning' })
      if (further > 0) await data.write(async (tx) => void tx.enqueue(greet, { to, further: further - 1 }))
    }),
  ],
})

test('an app in a test takes settings, waits for its work, and shows its mails', async () => {
  const app = await startForTest(defineApp({ name: 'a', modules: [greetings] }), { env: { RUNG_LIMITS: 'on' } })
  try {
    assert.deepEqual(await app.mails(), [])
    await app.idle()
    const statuses: number[] = []
    for (let n = 0; n < 2; n += 1) statuses.push((await fetch(`${app.url}/greetings`, { method: 'POST' })).status)
    assert.deepEqual(statuses, [200, 429])
    await app.idle()
    const mails = await app.mails()
    assert.deepEqual(
      mails.map(({ headers }) => headers.get('subject')),
      ['Hello 2', 'Hello 1', 'Hello 0'],
    )
    assert.match(mails[0]!.text!, /Good morning/)
  } finally {
    await app.stop()
  }
})
