import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { until } from '../support/process.ts'
import { expectBody, expectErrors, type Person } from './conduit-client.ts'
import { fetchAt, type Scene, settled } from './conduit-extended.ts'

interface Export {
  id: number
  state: 'running' | 'done' | 'failed'
  progress: number
  expiresAt: string | null
  statusUrl: string
  downloadUrl: string | null
}

/** All of an account as its rows say, each module's beside those of the others: no statement of the app's. */
const truth = `
  with me as (select * from identity.account where username = $1)
  select json_build_object(
    'profile', (select json_build_object('username', username, 'email', email, 'bio', bio, 'image', image,
      'createdAt', created_at) from me),
    'articles', (select coalesce(json_agg(json_build_object('slug', slug, 'title', title, 'description', description,
      'body', body, 'tagList', tag_list, 'createdAt', created_at, 'updatedAt', updated_at) order by id), '[]')
      from articles.article where author_id = (select id from me)),
    'comments', (select coalesce(json_agg(json_build_object('article', a.slug, 'body', c.body,
      'createdAt', c.created_at, 'updatedAt', c.updated_at) order by c.id), '[]')
      from comments.comment c left join articles.article a on a.id = c.article_id where c.author_id = (select id from me)),
    'favorites', (select coalesce(json_agg(json_build_object('slug', a.slug, 'title', a.title,
      'favoritedAt', f.created_at) order by a.id), '[]')
      from articles.favorite f join articles.article a on a.id = f.article_id where f.account_id = (select id from me)),
    'follows', (select coalesce(json_agg(json_build_object('username', u.username,
      'followedAt', f.created_at) order by u.id), '[]')
      from identity.follow f join identity.account u on u.id = f.followee_id where f.follower_id = (select id from me))
  ) as everything`

/** Postgres writes microseconds and `+00:00`. */
function withDates(value: unknown): unknown {
  return JSON.parse(JSON.stringify(value), (key, inner) =>
    /At$/.test(key) && typeof inner === 'string' ? new Date(inner).toISOString() : inner,
  )
}

export function exportTests(scene: Scene): void {
  const { api, target } = scene
  const request = async (person: Person) =>
    (expectBody(await api.post('/user/export', undefined, person.token), 202) as never as { export: Export }).export
  const look = async (person: Person, id: number) =>
    (expectBody(await api.get(`/user/export/${id}`, person.token)) as never as { export: Export }).export
  const done = (person: Person, id: number) =>
    until(async () => {
      const found = await look(person, id)
      assert.ok(found.progress >= 0 && found.progress <= 1)
      assert.notEqual(found.state, 'failed')
      return found.state === 'done' && found
    }, 'the export is done')

  async function download(url: string): Promise<unknown> {
    const answer = await fetchAt(target, url)
    assert.equal(answer.status, 200)
    assert.match(answer.headers.get('content-disposition')!, /^attachment; filename="conduit-export\.json"/)
    return answer.json()
  }

  async function everything({ username }: Person): Promise<unknown> {
    const [row] = await scene.query<{ everything: unknown }>(truth, [username])
    return withDates(row!.everything)
  }

  describe('an export', () => {
    it('has all of an account, over any number of pages', async () => {
      const [person, other] = [await api.person(), await api.person()]
      const odd = await api.article(person, {
        title: 'Odd “\u2028” "quotes"',
        body: '\\ \n </script> 🙂',
        tagList: ['a', 'b'],
      })
      const { slug } = await api.article(other)
      await api.follow(person, other.username)
      await api.favorite(person, slug)
      await api.favorite(person, odd.slug)
      await scene.query(
        `insert into comments.comment (article_id, author_id, body)
          select (select id from articles.article where slug = $2), me.id, 'Comment ' || n
          from generate_series(1, 1203) n, (select id from identity.account where username = $1) me`,
        [person.username, slug],
      )
      await scene.query(
        `insert into articles.article (slug, author_id, title, description, body)
          select $1 || '-' || n, me.id, 'Title ' || n, 'D', repeat('x', 20000)
          from generate_series(1, 85) n, (select id from identity.account where username = $1) me`,
        [person.username],
      )
      const { id, statusUrl } = await request(person)
      assert.equal(statusUrl, `/api/user/export/${id}`)
      const { downloadUrl, expiresAt } = await done(person, id)
      assert.ok(Math.abs(Date.parse(expiresAt!) - Date.now() - 86_400_000) < 600_000)
      const exported = await download(downloadUrl!)
      assert.deepEqual(exported, await everything(person))
    })

    it('of an account that has done nothing is there too', async () => {
      const person = await api.person()
      const { downloadUrl } = await done(person, (await request(person)).id)
      assert.deepEqual(await download(downloadUrl!), await everything(person))
    })

    it('is written once, however often it is asked for meanwhile', async () => {
      const person = await api.person()
      const asked = await Promise.all(Array.from({ length: 8 }, () => request(person)))
      const ids = [...new Set(asked.map(({ id }) => id))]
      for (const id of ids) await done(person, id)
      const rows = await scene.query(
        `select state from exports.export where account_id = (select id from identity.account where username = $1)`,
        [person.username],
      )
      assert.equal(rows.length, ids.length)
      assert.ok(rows.every(({ state }) => state === 'done'))
      await assert.rejects(
        scene.query('insert into exports.export (account_id, ends_at) values (1, now()), (1, now())'),
        /export_running_key/,
      )
    })

    it('is its owner’s own', async () => {
      const [person, other] = [await api.person(), await api.person()]
      const { id } = await request(person)
      const { downloadUrl } = await done(person, id)
      expectErrors(await api.get(`/user/export/${id}`, other.token), 404, { export: ['not found'] })
      expectErrors(await api.get(`/user/export/${id}`), 401, { token: ['is missing'] })
      const forged = downloadUrl!.replace(/signature=./, 'signature=!')
      assert.equal((await fetchAt(target, forged)).status, 403)
    })

    it('is gone after a day', async () => {
      const person = await api.person()
      const { id } = await request(person)
      const { downloadUrl } = await done(person, id)
      await scene.query('update exports.export set ends_at = now() where id = $1', [id])
      await scene.tick('exports')
      await settled(scene, ['exports.remove-ended'])
      expectErrors(await api.get(`/user/export/${id}`, person.token), 404, { export: ['not found'] })
      assert.equal((await fetchAt(target, downloadUrl!)).status, 404)
      assert.deepEqual(await scene.query('select from exports.export where id = $1', [id]), [])
    })
  })
}
