import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { type TestApp, testApp } from 'rung/testing'
import conduit from '../app.ts'

/** How an author tests an app with tokens of its own, events, a cron and mail: the digest of a day. */
let app: TestApp<string>
before(async () => {
  app = await testApp(conduit, {
    async signIn(username: string, { request }) {
      const user = { username, email: `${username}@example.org`, password: 'correct horse battery' }
      const { body } = await request('/api/users', { json: { user }, expect: 201 })
      return { authorization: `Token ${body.user.token}` }
    },
  })
})
after(() => app?.stop())

test('the digest of a day tells of what is new, once', async () => {
  const [ann, bob] = [app.as('ann'), app.as('bob')]
  const preferences = { digest: 'daily', timeZone: 'Europe/Berlin', digestHour: 7 }
  await ann.request('/api/notifications/preferences', { method: 'PUT', json: { preferences }, expect: 200 })
  const article = { title: 'Tea', description: 'How to make it', body: 'With water' }
  const { body } = await ann.request('/api/articles', { json: { article }, expect: 201 })
  await bob.request(`/api/articles/${body.article.slug}/favorite`, { method: 'POST', expect: 200 })
  await app.jobs.drain()
  const digests = async () => (await app.mails()).filter(({ to }) => to === 'ann@example.org')
  assert.equal((await digests()).length, 0)

  await app.clock.advance('1d')
  await app.jobs.drain()
  const [digest] = await digests()
  assert.equal(digest?.subject, 'One new notification on Conduit')
  assert.match(digest!.text!, /bob favored "Tea"/)

  await app.clock.advance('1d')
  await app.jobs.drain()
  assert.equal((await digests()).length, 1)
})
