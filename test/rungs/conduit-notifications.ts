import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { articlePath, expectBody, expectErrors, type Person } from './conduit-client.ts'
import { fetchAt, notificationsOf, type Scene, settled } from './conduit-extended.ts'

export function notificationTests(scene: Scene): void {
  const { api } = scene

  describe('notifications', () => {
    it('tell of followers, comments and favorites, each once', async () => {
      const [author, reader] = [await api.person(), await api.person()]
      const { slug, title } = await api.article(author)
      await Promise.all([api.follow(reader, author.username), api.follow(reader, author.username)])
      await api.follow(reader, author.username)
      const comment = await api.comment(reader, slug)
      for (let n = 0; n < 3; n += 1) await api.favorite(reader, slug)
      await api.unfavorite(reader, slug)
      await api.favorite(reader, slug)
      await settled(scene)
      const { notifications, notificationsCount, unreadCount } = await notificationsOf(api, author)
      assert.deepEqual([notificationsCount, unreadCount], [3, 3])
      const seen = notifications.map(({ kind, article, commentId, read }) => ({ kind, article, commentId, read }))
      const byKind = seen.sort((a, b) => a.kind.localeCompare(b.kind))
      const article = { slug, title }
      assert.deepEqual(byKind, [
        { kind: 'comment', article, commentId: comment.id, read: false },
        { kind: 'favorite', article, commentId: null, read: false },
        { kind: 'follow', article: null, commentId: null, read: false },
      ])
      for (const { actor } of notifications) {
        assert.deepEqual(actor, { username: reader.username, bio: null, image: null, following: false })
      }
      assert.equal((await notificationsOf(api, reader)).notificationsCount, 0)
    })

    it('tell nobody of what he did himself', async () => {
      const author = await api.person()
      const { slug } = await api.article(author)
      await api.comment(author, slug)
      await api.favorite(author, slug)
      await api.follow(author, author.username)
      await settled(scene)
      assert.deepEqual(await notificationsOf(api, author), {
        notifications: [],
        notificationsCount: 0,
        unreadCount: 0,
      })
    })

    it('come newest first, in pages, and are read up to the one that was seen', async () => {
      const author = await api.person()
      const { slug } = await api.article(author)
      const reader = await api.person()
      const ids: number[] = []
      for (let n = 0; n < 5; n += 1) ids.unshift((await api.comment(reader, slug)).id)
      await settled(scene)
      const first = await notificationsOf(api, author, '?limit=2')
      const second = await notificationsOf(api, author, '?limit=2&offset=2')
      assert.deepEqual(
        [...first.notifications, ...second.notifications].map(({ commentId }) => commentId),
        ids.slice(0, 4),
      )
      const upTo = second.notifications[0]!.id
      const left = await api.post('/notifications/read', { read: { upTo } }, author.token)
      assert.deepEqual(expectBody(left), { unreadCount: 2 })
      const after = await notificationsOf(api, author)
      assert.deepEqual(
        after.notifications.map(({ read }) => read),
        [false, false, true, true, true],
      )
      assert.equal(after.unreadCount, 2)
      assert.deepEqual(expectBody(await api.post('/notifications/read', { read: { upTo: 0 } }, author.token)), {
        unreadCount: 2,
      })
    })

    it('are their readers own', async () => {
      const token = { token: ['is missing'] }
      expectErrors(await api.get('/notifications'), 401, token)
      expectErrors(await api.post('/notifications/read', { read: { upTo: 1 } }), 401, token)
      expectErrors(await api.get('/notifications/preferences'), 401, token)
      expectErrors(await api.put('/notifications/preferences', {}), 401, token)
    })

    it('and comments go with a deleted article', async () => {
      const [author, reader] = [await api.person(), await api.person()]
      const { slug } = await api.article(author)
      const { id } = await api.comment(reader, slug)
      await api.favorite(reader, slug)
      await settled(scene)
      assert.equal((await notificationsOf(api, author)).notificationsCount, 2)
      expectBody(await api.remove(articlePath(slug), author.token), 204)
      await settled(scene)
      assert.equal((await notificationsOf(api, author)).notificationsCount, 0)
      assert.deepEqual(await scene.query('select from comments.comment where id = $1', [id]), [])
    })

    it('leave no comment behind when many write as the article goes', async () => {
      for (let round = 0; round < 5; round += 1) {
        const author = await api.person()
        const { slug } = await api.article(author)
        const path = articlePath(slug)
        const post = () => api.post(`${path}/comments`, { comment: { body: 'Me too' } }, author.token)
        const [articleId] = await scene.query<{ id: string }>('select id from articles.article where slug = $1', [slug])
        await Promise.all([...Array.from({ length: 8 }, post), api.remove(path, author.token), post(), post()])
        await settled(scene)
        const left = await scene.query('select from comments.comment where article_id = $1', [articleId!.id])
        assert.equal(left.length, 0)
      }
    })
  })

  digestTests(scene)
}

function digestTests(scene: Scene): void {
  const { api, target } = scene

  const prefer = (person: Person, preferences: object) =>
    api.put('/notifications/preferences', { preferences }, person.token)

  async function accountId({ username }: Person): Promise<string> {
    const [row] = await scene.query<{ id: string }>('select id from identity.account where username = $1', [username])
    return row!.id
  }

  /** As if the hour had come there. */
  async function itIsTime(person: Person): Promise<void> {
    const id = await accountId(person)
    await scene.query(
      "update notifications.preference set next_digest_at = now() - interval '1 minute' where account_id = $1 and digest = 'daily'",
      [id],
    )
    await Promise.all([scene.tick('digests'), scene.tick('digests')])
    await settled(scene, ['notifications.find-digests', 'notifications.send-digest'])
  }

  /** The sources of all mails to this person. */
  async function mailsTo({ email }: Person): Promise<string[]> {
    const page = await (await fetchAt(target, '/-/mail')).text()
    const links = page.split('<tr>').filter((row) => row.includes(email))
    const ids = links.map((row) => /href="(\/-\/mail\/[^"]+)"/.exec(row)![1]!)
    return Promise.all(ids.map(async (id) => (await fetchAt(target, `${id}/source`)).text()))
  }

  const daily = { digest: 'daily', timeZone: 'Europe/Berlin', digestHour: 7 }

  describe('the digest', () => {
    it('is preferred, or not', async () => {
      const person = await api.person()
      const get = async () => expectBody(await api.get('/notifications/preferences', person.token)) as unknown
      assert.deepEqual(await get(), { preferences: { digest: 'none', timeZone: 'UTC', digestHour: 7 } })
      expectBody(await prefer(person, daily))
      assert.deepEqual(await get(), { preferences: daily })
      expectErrors(await prefer(person, { ...daily, timeZone: 'Mars/Olympus' }), 422, {
        timeZone: ['is no IANA time zone'],
      })
      expectErrors(await prefer(person, { ...daily, timeZone: '+01:00' }), 422, { timeZone: ['is no IANA time zone'] })
      expectBody(await prefer(person, { ...daily, digestHour: 24 }), 422)
      expectBody(await prefer(person, { ...daily, digest: 'hourly' }), 422)
      assert.deepEqual(await get(), { preferences: daily })
    })

    it('comes once a day, with what is new', async () => {
      const [author, reader] = [await api.person(), await api.person()]
      const { slug, title } = await api.article(author, { title: 'Tea & <cake>' })
      expectBody(await prefer(author, daily))
      await itIsTime(author)
      assert.equal((await mailsTo(author)).length, 0, 'there is nothing new')
      await scene.query('delete from notifications.digest where account_id = $1', [await accountId(author)])
      await api.comment(reader, slug)
      await settled(scene)
      await itIsTime(author)
      await itIsTime(author)
      const [mail, ...others] = await mailsTo(author)
      assert.equal(others.length, 0)
      assert.match(mail!, /^Subject: One new notification on Conduit\r$/m)
      assert.match(mail!, /^List-Unsubscribe-Post: List-Unsubscribe=One-Click\r$/m)
      assert.ok(mail!.includes(reader.username) && !mail!.includes(`<${title}`))
      const [next] = await scene.query<{ hour: number }>(
        `select extract(hour from next_digest_at at time zone time_zone)::int as hour
          from notifications.preference where account_id = $1 and next_digest_at > now()`,
        [await accountId(author)],
      )
      assert.deepEqual(next, { hour: 7 })
      // Whoever takes up the job of a process that was killed in the moment of sending sends nothing.
      await api.comment(reader, slug)
      await settled(scene)
      const [sent] = await scene.query<{ accountId: string; day: string }>(
        'select account_id as "accountId", day::text from notifications.digest where account_id = $1 and sent_at is not null',
        [await accountId(author)],
      )
      await scene.sendDigestAgain({ accountId: Number(sent!.accountId), day: sent!.day })
      await settled(scene, ['notifications.send-digest'])
      assert.equal((await mailsTo(author)).length, 1)
      // The next day tells of what came since, and of nothing twice.
      await scene.query('delete from notifications.digest where account_id = $1', [await accountId(author)])
      await itIsTime(author)
      const [second, ...more] = (await mailsTo(author)).filter((one) => one !== mail)
      assert.match(second!, /^Subject: One new notification on Conduit\r$/m)
      assert.equal(more.length, 0)
    })

    it('ends by the link in it, without a login, as often as it is used', async () => {
      const [author, reader] = [await api.person(), await api.person()]
      const { slug } = await api.article(author)
      expectBody(await prefer(author, daily))
      await api.comment(reader, slug)
      await settled(scene)
      await itIsTime(author)
      const [mail] = await mailsTo(author)
      const header = /^List-Unsubscribe: <([^>]+)>/m.exec(mail!.replaceAll(/\r\n[ \t]+/g, ''))!
      const { pathname, protocol } = new URL(header[1]!)
      assert.equal(protocol, 'https:')
      const preferences = async () =>
        (expectBody(await api.get('/notifications/preferences', author.token)) as never as { preferences: object })
          .preferences
      const look = await fetchAt(target, pathname)
      assert.equal(look.status, 200)
      assert.match(look.headers.get('content-type')!, /^text\/html/)
      assert.match(await look.text(), /<form method="post">/)
      assert.deepEqual(await preferences(), daily, 'a look changes nothing')
      for (let n = 0; n < 2; n += 1) {
        const body = new URLSearchParams({ 'List-Unsubscribe': 'One-Click' })
        const done = await fetchAt(target, pathname, { method: 'POST', body })
        assert.equal(done.status, 200, await done.text())
        assert.deepEqual(await preferences(), { ...daily, digest: 'none' })
      }
      const form = new FormData()
      form.set('List-Unsubscribe', 'One-Click')
      assert.equal((await fetchAt(target, pathname, { method: 'POST', body: form })).status, 200)
      assert.equal((await fetchAt(target, pathname, { method: 'POST' })).status, 200)
      const forged = pathname.replace(/(\d+)\./, (_, id) => `${Number(id) + 1}.`)
      assert.equal((await fetchAt(target, forged, { method: 'POST' })).status, 404)
      await api.comment(reader, slug)
      await scene.query('delete from notifications.digest where account_id = $1', [await accountId(author)])
      await itIsTime(author)
      assert.equal((await mailsTo(author)).length, 1)
    })
  })
}
