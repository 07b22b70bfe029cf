import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { until } from '../support/process.ts'
import { articlePath, expectBody } from './conduit-client.ts'
import type { Scene } from './conduit-extended.ts'

interface Told {
  name: string
  key: string | null
  payload: Record<string, unknown>
}

const names = [
  ...['identity.registered', 'identity.changed', 'identity.followed'],
  ...['articles.published', 'articles.changed', 'articles.deleted', 'articles.favorited', 'articles.viewed'],
  'comments.added',
]

/** What the app publishes, as a group sees it that nobody works for: its deliveries stay. */
export function eventTests({ api, query }: Scene): void {
  const idOf = async (username: string) => {
    const [row] = await query<{ id: string }>('select id from identity.account where username = $1', [username])
    return Number(row!.id)
  }
  let from = 0
  async function told(what: () => Promise<unknown>): Promise<Told[]> {
    await what()
    const rows = await query<Told & { id: string }>(
      `select id, name, key, payload from rung.job where queue = 'event:probe' and id > $1 and name <> 'articles.viewed' order by id`,
      [from],
    )
    from = Math.max(from, ...rows.map(({ id }) => Number(id)))
    return rows.map(({ name, key, payload }) => ({ name, key, payload }))
  }

  describe('what happens', () => {
    before(() =>
      query(
        `insert into rung.subscription (event, group_name, queue, attempts_max)
          select name, 'probe', 'event:probe', 10 from unnest($1::text[]) name`,
        [names],
      ),
    )
    after(async () => {
      await query("delete from rung.subscription where group_name = 'probe'")
      await query("delete from rung.job where queue = 'event:probe'")
    })

    it('to accounts is told once, and only when it does', async () => {
      const [ann, bob] = [await api.person(), await api.person()]
      const [annId, bobId] = [await idOf(ann.username), await idOf(bob.username)]
      const seen = { accountId: annId, username: ann.username, bio: null, image: null }
      const key = `account:${annId}`
      assert.deepEqual(
        (await told(async () => {})).filter((event) => event.key === key),
        [{ name: 'identity.registered', key, payload: seen }],
      )
      const put = (user: object) => api.put('/user', { user }, ann.token)
      assert.deepEqual(await told(() => put({ bio: 'Hi' })), [
        { name: 'identity.changed', key, payload: { ...seen, bio: 'Hi' } },
      ])
      assert.deepEqual(await told(() => put({ bio: 'Hi', username: ann.username })), [])
      assert.deepEqual(await told(() => put({ password: 'another one', email: `x${ann.email}` })), [])
      assert.deepEqual(await told(() => put({ username: bob.username })), [], 'a refusal')
      const payload = { followerId: bobId, followeeId: annId }
      assert.deepEqual(await told(() => api.follow(bob, ann.username)), [{ name: 'identity.followed', key, payload }])
      assert.deepEqual(await told(() => api.follow(bob, ann.username)), [])
      assert.deepEqual(await told(() => api.unfollow(bob, ann.username)), [])
    })

    it('to articles is told with all that a search needs', async () => {
      const [ann, bob] = [await api.person(), await api.person()]
      const [authorId, accountId] = [await idOf(ann.username), await idOf(bob.username)]
      from = 0
      await told(async () => {})
      let slug = ''
      const [published, ...others] = await told(async () => {
        slug = (await api.article(ann, { title: 'One', tagList: ['a', 'b'] })).slug
      })
      assert.equal(others.length, 0)
      const { articleId, createdAt, ...whole } = published!.payload
      const key = `article:${articleId}`
      const content = { title: 'One', description: 'What it is about', body: 'All of it', tagList: ['a', 'b'] }
      assert.deepEqual([published!.name, published!.key], ['articles.published', key])
      assert.deepEqual(whole, { authorId, slug, ...content })
      const put = (article: object) => api.put(articlePath(slug), { article }, ann.token)
      assert.deepEqual(await told(() => put({ body: 'All of it', tagList: ['a', 'b'] })), [])
      const changed = await told(() => put({ body: 'More', tagList: ['b'] }))
      const payload = { articleId, authorId, slug, ...content, body: 'More', tagList: ['b'], createdAt }
      assert.deepEqual(changed, [{ name: 'articles.changed', key, payload }])
      assert.deepEqual(await told(() => api.favorite(bob, slug)), [
        { name: 'articles.favorited', key, payload: { articleId, authorId, accountId } },
      ])
      assert.deepEqual(await told(() => api.favorite(bob, slug)), [])
      assert.deepEqual(await told(() => api.unfavorite(bob, slug)), [])
      let commentId = 0
      const added = await told(async () => {
        commentId = (await api.comment(bob, slug)).id
      })
      const comment = { commentId, articleId, articleAuthorId: authorId, authorId: accountId }
      assert.deepEqual(added, [{ name: 'comments.added', key, payload: comment }])
      assert.deepEqual(await told(() => api.remove(articlePath(slug), bob.token)), [], 'a refusal')
      const gone = { articleId, authorId, slug }
      assert.deepEqual(await told(() => api.remove(articlePath(slug), ann.token)), [
        { name: 'articles.deleted', key, payload: gone },
      ])
    })

    it('tells of many views in one', async () => {
      const { slug } = await api.article(await api.person())
      const [row] = await query<{ id: string }>('select id from articles.article where slug = $1', [slug])
      for (let n = 0; n < 10; n += 1) expectBody(await api.post(`${articlePath(slug)}/views`), 204)
      const events = await until(async () => {
        const rows = await query<Told>(
          "select key, payload from rung.job where queue = 'event:probe' and name = 'articles.viewed'",
        )
        const views = rows.flatMap(({ payload }) => payload.views as [number, number][])
        const sum = views.filter(([id]) => id === Number(row!.id)).reduce((all, [, n]) => all + n, 0)
        return sum === 10 && rows
      }, 'the views are published')
      assert.ok(events.every(({ key }) => key === null))
      assert.ok(events.length <= 5, `${events.length} events`)
    })
  })
}
