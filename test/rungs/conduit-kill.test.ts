import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { fileURLToPath } from 'node:url'
import type { Client } from '../../src/engines/postgres/client.ts'
import { openScratch, type RungProcess, until } from '../support/process.ts'
import { type Article, conduitClient, expectBody, type Person } from './conduit-client.ts'
import { notificationsOf, settled, storedFiles } from './conduit-extended.ts'
import { noise } from './conduit-pictures.ts'

const app = fileURLToPath(new URL('../../examples/conduit/app.ts', import.meta.url))
const kills = 2
const writers = 6

/** What happened, and what was told of it: from the rows of the modules, past the app. */
const untold = `
  with happened (account_id, kind, actor_id, subject_id) as (
    select followee_id, 'follow', follower_id, 0 from identity.follow where followee_id <> follower_id
    union all
    select author_id, 'favorite', account_id, article_id from articles.favorite join articles.article on id = article_id
      where account_id <> author_id
    union all
    select a.author_id, 'comment', c.author_id, c.id from comments.comment c join articles.article a on a.id = c.article_id
      where c.author_id <> a.author_id
  ), told as (
    select account_id, kind, actor_id, subject_id from notifications.notification
  )
  select 'lost' as what, * from (table happened except all table told) lost
  union all
  select 'doubled', * from (table told except all table happened) doubled`

describe('conduit, killed while it works', () => {
  let scratch: Awaited<ReturnType<typeof openScratch>>
  let running: RungProcess
  let client: Client
  const query = async <Row>(text: string, values: readonly unknown[] = []) =>
    (await client.query(text, [...values])).rows as Row[]
  const api = conduitClient(() => ({ baseUrl: running.url }))

  before(async () => {
    scratch = await openScratch()
  })
  after(() => scratch.end())

  it('loses and doubles no notification', async () => {
    running = await scratch.start({ app })
    client = await scratch.connect()
    const people = await Promise.all(Array.from({ length: writers }, () => api.person()))
    const articles = await Promise.all(people.map((person) => api.article(person)))
    let acknowledged = 0
    for (let kill = 0; kill < kills; kill += 1) {
      let stopped = false
      const fan = (await Promise.all(Array.from({ length: writers }, () => api.person())))!
      const write = async (person: Person, nth: number) => {
        for (let n = nth; !stopped; n += 1) {
          const done = await step(person, articles[n % articles.length]!, n).catch(() => false)
          if (done) acknowledged += 1
        }
      }
      const writing = [...people, ...fan].map(write)
      const enough = acknowledged + 60
      await until(async () => {
        if (acknowledged < enough) return false
        const waiting = await query(`select from rung.job where queue = 'event:notifications' limit 1`)
        return waiting.length > 0
      }, 'there is work in hand')
      await running.kill()
      stopped = true
      await Promise.all(writing)
      running = await scratch.start({ app })
    }
    await settled({ query })
    assert.deepEqual(await query(untold), [])
    const [counts] = await query<{ told: number }>('select count(*)::int as told from notifications.notification')
    assert.ok(counts!.told > acknowledged / 2, `${counts!.told} of ${acknowledged}`)
    const login = await api.post('/users/login', { user: { email: people[0]!.email, password: people[0]!.password } })
    const { unreadCount } = await notificationsOf(api, expectBody(login).user)
    assert.ok(unreadCount > 0)
  })

  it('makes avatars all the same, and leaves no other files', async () => {
    const people = await Promise.all(Array.from({ length: 12 }, () => api.person()))
    const pictures = await Promise.all([noise(1200, 900), noise(900, 1200)])
    for (let kill = 0; kill < kills; kill += 1) {
      // Of an upload that is under way at the kill nothing may be left either.
      const uploads = people.map((person, n) => put(person, pictures[(kill + n) % 2]!).catch(() => undefined))
      await until(async () => {
        const held = await query(`select from rung.job where queue = 'avatars' and lease_until is not null`)
        return held.length > 0 && (kill % 2 === 0 || (await storedFiles(scratch.dataDir, 'avatars')).length % 3 > 0)
      }, 'one is being made')
      await running.kill()
      await Promise.all(uploads)
      running = await scratch.start({ app })
    }
    // What the sweep takes up an hour later.
    await query(`update avatars.upload set state = 'removed' where state = 'receiving'`)
    await settled({ query }, ['avatars'])
    const rows = await query<{ state: string }>(`select state from avatars.upload where state <> 'removed'`)
    assert.deepEqual([...new Set(rows.map(({ state }) => state))], ['ready'])
    const files = await storedFiles(scratch.dataDir, 'avatars')
    const kept = await query<{ id: string }>('select id from avatars.upload')
    const ofRows = (file: string) => kept.some(({ id }) => new RegExp(`/${id}(/|$|\\W)`).test(file))
    assert.deepEqual(
      files.filter((file) => !ofRows(file)),
      [],
    )
    assert.equal(files.filter((file) => file.includes('/sizes')).length, 3 * rows.length)
    const [{ wrong }] = (await query<{ wrong: number }>(`
      select count(*)::int as wrong from avatars.upload join identity.account on account.id = account_id
      where state = 'ready' and image is distinct from '/api/avatars/' || upload.id || '-' || left(sha256, 20) || '/256.webp'`)) as [
      { wrong: number },
    ]
    assert.equal(wrong, 0)
  })

  it('writes an export to its end', async () => {
    const person = await api.person()
    const { slug } = await api.article(person)
    const comments = 60_000
    await query(
      `insert into comments.comment (article_id, author_id, body)
        select id, author_id, repeat('x', 200) from articles.article, generate_series(1, ${comments}) where slug = $1`,
      [slug],
    )
    type Export = { export: { id: number; state: string; downloadUrl: string | null } }
    const { id } = (expectBody(await api.post('/user/export', undefined, person.token), 202) as never as Export).export
    for (let kill = 0; kill < 2; kill += 1) {
      await until(async () => {
        const held = await query(`select from rung.job where queue = 'exports.write' and lease_until > now()`)
        return held.length > 0
      }, 'it is being written')
      await running.kill()
      running = await scratch.start({ app })
    }
    const url = await until(async () => {
      const found = (expectBody(await api.get(`/user/export/${id}`, person.token)) as never as Export).export
      assert.notEqual(found.state, 'failed')
      return found.downloadUrl ?? undefined
    }, 'it is done')
    const content = (await (await fetch(running.url + url)).json()) as { comments: unknown[] }
    assert.equal(content.comments.length, comments)
    assert.equal((await storedFiles(scratch.dataDir, 'exports')).length, 1)
  })

  function put({ token }: Person, content: Uint8Array): Promise<Response> {
    return fetch(`${running.url}/api/user/avatar`, {
      method: 'PUT',
      headers: { authorization: `Token ${token}`, 'content-type': 'image/jpeg' },
      body: content as NonNullable<RequestInit['body']>,
    })
  }

  /** True when the app has acknowledged it. */
  async function step(person: Person, article: Article, n: number): Promise<boolean> {
    if (n % 3 === 0) return (await api.favorite(person, article.slug)).status === 200
    if (n % 3 === 1) return (await api.follow(person, article.author.username)).status === 200
    await api.comment(person, article.slug)
    return true
  }
})
