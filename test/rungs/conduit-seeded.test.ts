import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import conduit from '../../examples/conduit/app.ts'
import { createArticle } from '../../examples/conduit/articles/articles.ts'
import { fillOf } from '../../examples/conduit/articles/reindex.ts'
import { planFor } from '../../examples/conduit/seed/plan.ts'
import { fillSearch } from '../../examples/conduit/seed/search.ts'
import { seedConduit } from '../../examples/conduit/seed/seed.ts'
import { emailOf, seedPassword, usernameOf } from '../../examples/conduit/seed/users.ts'
import { type Client, connectOnce } from '../../src/engines/postgres/client.ts'
import { type Random, seededRandom } from '../../src/kernel/random.ts'
import type { Running } from '../../src/runtime/boot.ts'
import { openData } from '../../src/runtime/open-data.ts'
import { bootForTest } from '../support/app.ts'
import { type TestPostgres, testPostgres } from '../support/postgres.ts'
import {
  articlePath,
  type Conduit,
  conduitClient,
  expectBody,
  expectOneOf,
  profilePath,
  type User,
} from './conduit-client.ts'
import { foundIn, searchPath, uniqueWord } from './conduit-search.ts'
import { conduitSuite } from './conduit-suite.ts'
import { truthOf } from './conduit-truth.ts'

const plan = planFor(2_000)
/** Users of the plan who read and write here: the most followed, some in between, the last. */
const people = [0, 1, 2, 9, 50, 120, 198, 199]
const stepsEach = 60
const samples = 60
const seed = Number(process.env.RUNG_TEST_SEED ?? Math.floor(Math.random() * 2 ** 31))

describe(`conduit with 2,000 articles (RUNG_TEST_SEED=${seed})`, () => {
  let postgres: TestPostgres
  let running: Running
  let client: Client
  let users: User[]
  const target = () => ({ baseUrl: running.url })
  const api = conduitClient(target)
  const random = seededRandom(seed)
  const check = () => truthOf(client, api).check(random, users, samples)
  const dataOf = (module: string) => running.data.forModule(module)

  before(async () => {
    postgres = await testPostgres()
    running = await bootForTest(conduit, postgres)
    client = await connectOnce(running.server.connection)
  })
  after(async () => {
    await client?.end()
    await running?.stop()
    await postgres?.stop()
  })

  it('is seeded, also when that was interrupted, and no second time', async () => {
    const interrupted = seedConduit(dataOf, plan, (step) => {
      if (step === 'articles') throw new Error('interrupted')
    })
    await assert.rejects(interrupted, /interrupted/)
    const seed = () => seedConduit(dataOf, plan)
    const data = dataOf('articles')
    const [{ users, articles }, searched] = await fillSearch(data, undefined, seed, () => {})
    assert.ok(users === 0 && articles < plan.articles, 'what was there was kept')
    assert.deepEqual([searched, await fillOf(data)], [false, 'left'])
    const nothing = { users: 0, follows: 0, articles: 0, favorites: 0, comments: 0 }
    const opened = await openData({
      name: 'seed',
      modules: conduit.modules,
      env: { DATABASE_URL: running.server.connection.url, NODE_ENV: 'test', LOG_LEVEL: 'silent' },
    })
    try {
      const steps = new Map<string, number[]>()
      const fill = () =>
        fillSearch(opened.data('articles'), opened.search('articles'), seed, (step, done, total) =>
          steps.set(step, [done, total]),
        )
      assert.deepEqual(await fill(), [nothing, true])
      assert.deepEqual([await fillOf(data), steps.get('search')], ['filled', [plan.articles, plan.articles]])
      steps.clear()
      assert.deepEqual(await fill(), [nothing, true])
      assert.deepEqual([await fillOf(data), steps.size], ['filled', 0])
    } finally {
      await opened.close()
    }
    const { rows } = await client.query(`
      select (select count(*) from identity.account)::int as users, (select count(*) from identity.follow)::int as follows,
        (select count(*) from articles.article)::int as articles, (select count(*) from articles.favorite)::int as favorites,
        (select count(*) from comments.comment)::int as comments`)
    const { seed: _, ...wanted } = plan
    assert.deepEqual(rows[0], wanted)
  })

  it('lets seeded users log in', async () => {
    users = await Promise.all(
      people.map(async (index) => {
        const email = emailOf(usernameOf(plan, index))
        return expectBody(await api.post('/users/login', { user: { email, password: seedPassword } })).user
      }),
    )
  })

  it('answers what the rows say', () => check())

  it('finds nothing of a transaction that was rolled back', async () => {
    const [data, word] = [dataOf('articles'), uniqueWord()]
    const { rows } = await client.query<{ id: number }>('select id from identity.account where username = $1', [
      users[0]!.username,
    ])
    const write = (fail: boolean) =>
      data.write(async () => {
        await createArticle(data, rows[0]!.id, { title: word, description: 'D', body: 'B', tagList: [word] })
        if (fail) throw new Error('rolled back')
      })
    await assert.rejects(write(true), /rolled back/)
    const found = async () => foundIn(await api.get(searchPath({ q: word }))).articles.length
    assert.equal(await found(), 0)
    await write(false)
    assert.equal(await found(), 1)
  })

  it('still does after many have written at once', async () => {
    const written = await Promise.all(users.map((user) => writeALot(api, user, seededRandom(random() * 2 ** 32))))
    const statuses = new Set(written.flat())
    for (const status of [200, 201, 204]) assert.ok(statuses.has(status), `never a ${status}`)
    await check()
  })

  conduitSuite(target)

  it('still does after the suite', () => check())
})

/** Creates, changes, retags, deletes, favors and follows, mostly where others do as well. Returns the statuses. */
async function writeALot(api: Conduit, user: User, random: Random): Promise<number[]> {
  const pick = <T>(from: readonly T[]): T => from[Math.floor(random() * from.length)]!
  const tagList = () => ['javascript', 'typescript', 'postgres', 'sql', 'hot'].filter(() => random() < 0.4)
  const own: string[] = []
  const statuses: number[] = []
  for (let step = 0; step < stepsEach; step += 1) {
    const { articles } = await api.list({ limit: 5, ...(random() < 0.3 && { tag: 'javascript' }) }, user.token)
    const { slug, author } = pick(articles)
    const mine = own.length > 0 ? pick(own) : slug
    const write = pick([
      async () => {
        const article = { title: `Hot ${Math.floor(random() * 20)}`, description: 'D', body: 'B', tagList: tagList() }
        const answer = await api.post('/articles', { article }, user.token)
        own.push(expectBody(answer, 201).article.slug)
        return answer
      },
      () => api.favorite(user, slug),
      () => api.favorite(user, slug),
      () => api.unfavorite(user, slug),
      () => api.put(articlePath(mine), { article: { tagList: tagList() } }, user.token),
      () => api.put(articlePath(mine), { article: { description: `D ${step}` } }, user.token),
      async () => {
        const answer = await api.put(articlePath(mine), { article: { title: `New ${step % 7}` } }, user.token)
        if (answer.status === 200 && own.includes(mine)) own[own.indexOf(mine)] = answer.body.article.slug
        return answer
      },
      async () => {
        if (random() < 0.5 && own.includes(mine)) own.splice(own.indexOf(mine), 1)
        else return api.get(articlePath(slug), user.token)
        return api.remove(articlePath(mine), user.token)
      },
      () => api.follow(user, author.username),
      () => api.unfollow(user, author.username),
      () => api.get(profilePath(author.username), user.token),
    ])
    statuses.push(expectOneOf(await write(), [200, 201, 204, 403, 404]))
  }
  return statuses
}
