import assert from 'node:assert/strict'
import type { Client } from '../../src/engines/postgres/client.ts'
import type { Random } from '../../src/kernel/random.ts'
import { articlePath, type Conduit, expectBody, listPath, type User } from './conduit-client.ts'
import { foundIn, searchPath } from './conduit-search.ts'

/**
 * What the API must answer, computed from the rows themselves: never from the kept counts, nor by the app's own statements.
 */

interface Filter {
  tag?: string
  author?: string
  favorited?: string
}

/** An article as `viewer` must see it; the tags in the order of the article, each held against its row of article_tag. */
const item = `
  json_build_object(
    'slug', a.slug, 'title', a.title, 'description', a.description,
    'tagList', (select coalesce(json_agg(t.tag order by array_position(a.tag_list, t.tag)), '[]')
      from articles.article_tag t where t.article_id = a.id),
    'createdAt', a.created_at, 'updatedAt', a.updated_at,
    'favorited', exists (select from articles.favorite f join viewer on f.account_id = viewer.id where f.article_id = a.id),
    'favoritesCount', (select count(*) from articles.favorite f where f.article_id = a.id),
    'author', (select json_build_object('username', u.username, 'bio', u.bio, 'image', u.image, 'following',
        exists (select from identity.follow w join viewer on w.follower_id = viewer.id where w.followee_id = u.id))
      from identity.account u where u.id = a.author_id)
  )`
const viewer = 'viewer as (select id from identity.account where username = $1)'
const listed = `
  select (select count(*) from matching)::int as total,
    (select coalesce(json_agg(page.item), '[]') from (
      select ${item} as item from matching a order by a.id desc limit $2 offset $3
    ) page) as items`

const listTruth = `
  with ${viewer}, matching as (
    select a.* from articles.article a
    where ($4::text is null or exists (select from articles.article_tag t where t.article_id = a.id and t.tag = $4))
      and ($5::text is null or a.author_id in (select id from identity.account where username = $5))
      and ($6::text is null or a.id in (
        select f.article_id from articles.favorite f join identity.account u on u.id = f.account_id where u.username = $6))
  ) ${listed}`
const feedTruth = `
  with ${viewer}, matching as (
    select a.* from articles.article a
    where exists (select from identity.follow w join viewer on w.follower_id = viewer.id where w.followee_id = a.author_id)
  ) ${listed}`
const articleTruth = `with ${viewer} select ${item} as item, a.body from articles.article a where a.slug = $2`
const tagsTruth = 'select tag from articles.article_tag group by tag order by count(*) desc, tag collate "C"'
const commentsTruth = `
  select c.id, c.body, u.username from comments.comment c join identity.account u on u.id = c.author_id
  join articles.article a on a.id = c.article_id where a.slug = $1 order by c.id desc`

/** What has the words, by a text search of its own: no index, no samples. */
const searchTruth = `
  with ${viewer}, matching as (
    select a.*, u.username from articles.article a join identity.account u on u.id = a.author_id
    where to_tsvector('english', concat_ws(' ', a.title, array_to_string(a.tag_list, ' '), a.description, a.body))
        @@ plainto_tsquery('english', $2)
      and ($3::text is null or exists (select from articles.article_tag t where t.article_id = a.id and t.tag = $3))
      and ($4::text is null or u.username = $4)
  )
  select (select count(*) from matching)::int as total,
    (select coalesce(json_object_agg(a.slug, ${item}), '{}') from matching a) as items,
    (select coalesce(json_object_agg(tag, n), '{}') from (
      select t.tag, count(*)::int as n from matching a join articles.article_tag t on t.article_id = a.id group by t.tag
    ) tags) as tags,
    (select coalesce(json_object_agg(username, n), '{}') from (
      select username, count(*)::int as n from matching group by username
    ) authors) as authors`

interface Item {
  createdAt: string
  updatedAt: string
}

/** Postgres writes microseconds and `+00:00`. */
function asSent<T extends Item>(found: T): T {
  const [createdAt, updatedAt] = [new Date(found.createdAt).toISOString(), new Date(found.updatedAt).toISOString()]
  return { ...found, createdAt, updatedAt }
}

export function truthOf(client: Client, api: Conduit) {
  const rows = async (text: string, values: unknown[] = []) => (await client.query(text, values)).rows

  async function expectPage(answer: Promise<import('./conduit-client.ts').Answer>, truth: Promise<unknown[]>) {
    const given = await answer
    const { articles, articlesCount } = expectBody(given)
    const [{ total, items }] = (await truth) as [{ total: number; items: Item[] }]
    assert.equal(articlesCount, total, given.request)
    assert.deepEqual(articles, items.map(asSent), given.request)
  }

  async function expectList(filter: Filter, limit: number, offset: number, user?: User): Promise<void> {
    const values = [user?.username, Math.min(limit, 100), offset, filter.tag, filter.author, filter.favorited]
    await expectPage(api.get(listPath({ ...filter, limit, offset }), user?.token), rows(listTruth, values))
  }

  async function expectFeed(user: User, limit: number, offset: number): Promise<void> {
    await expectPage(
      api.get(`/articles/feed?limit=${limit}&offset=${offset}`, user.token),
      rows(feedTruth, [user.username, Math.min(limit, 100), offset]),
    )
  }

  async function expectArticle(slug: string, user?: User): Promise<void> {
    const { article } = expectBody(await api.get(articlePath(slug), user?.token))
    const [truth] = await rows(articleTruth, [user?.username, slug])
    assert.deepEqual(article, { ...asSent(truth.item), body: truth.body })
    const { comments } = expectBody(await api.get(`${articlePath(slug)}/comments`, user?.token))
    const given = comments.map(({ id, body, author: { username } }) => ({ id, body, username }))
    assert.deepEqual(given, await rows(commentsTruth, [slug]))
  }

  async function expectTags(): Promise<void> {
    const { tags } = expectBody(await api.get('/tags'))
    assert.deepEqual(
      tags,
      (await rows(tagsTruth)).map(({ tag }) => tag),
    )
  }

  /** All that has this word, its counts by tag and author, and the whole of each article. */
  async function expectFound(q: string, filter: Pick<Filter, 'tag' | 'author'>, user?: User): Promise<void> {
    const [truth] = await rows(searchTruth, [user?.username, q, filter.tag, filter.author])
    const { total, items, tags, authors } = truth as Record<'items', Record<string, Item>> &
      Record<'tags' | 'authors', Record<string, number>> & { total: number }
    const told = `${q} ${JSON.stringify(filter)}`
    const slugs: string[] = []
    for (let offset = 0; offset <= 500; offset += 100) {
      const found = foundIn(await api.get(searchPath({ q, ...filter, limit: 100, offset }), user?.token))
      for (const { highlights: _, ...article } of found.articles) {
        assert.deepEqual(article, asSent(items[article.slug]!), told)
        slugs.push(article.slug)
      }
      if (total > 500) {
        assert.deepEqual([found.articlesCountIs, found.facetsAre], ['at least', 'estimated'], told)
        assert.ok(found.articlesCount <= total, told)
        continue
      }
      assert.deepEqual([found.articlesCount, found.articlesCountIs, found.facetsAre], [total, 'exact', 'exact'], told)
      expectCounts(found.facets.tags, ({ tag }) => tag, tags, told)
      expectCounts(found.facets.authors, ({ username }) => username, authors, told)
    }
    assert.equal(new Set(slugs).size, slugs.length, `${told}: one came twice`)
    if (total <= 500) assert.equal(slugs.length, total, told)
  }

  /** The total of every single author, tag and reader there is, and of nobody. */
  async function expectEveryTotal(): Promise<void> {
    const groups: [keyof Filter, string][] = [
      [
        'author',
        'select u.username as name, count(a.id)::int as n from identity.account u left join articles.article a on a.author_id = u.id group by 1',
      ],
      [
        'favorited',
        'select u.username as name, count(f.article_id)::int as n from identity.account u left join articles.favorite f on f.account_id = u.id group by 1',
      ],
      ['tag', 'select tag as name, count(*)::int as n from articles.article_tag group by 1'],
    ]
    for (const [key, text] of groups) {
      const all = await rows(text)
      await inTurn(8, all, async ({ name, n }) => {
        const { articlesCount, articles } = await api.list({ [key]: name, limit: 1 })
        assert.deepEqual([articlesCount, articles.length], [n, Math.min(n, 1)], `${key} ${name}`)
      })
    }
  }

  /** Filters that meet something more often than not: all from around one article. */
  async function someFilter(random: Random): Promise<Filter> {
    const [row] = await rows(
      `select u.username as author,
        (select tag from articles.article_tag t where t.article_id = a.id order by md5(tag || $1) limit 1) as tag,
        (select v.username from articles.favorite f join identity.account v on v.id = f.account_id
          where f.article_id = a.id order by md5(v.username || $1) limit 1) as favorited
      from articles.article a join identity.account u on u.id = a.author_id order by md5(a.id || $1) limit 1`,
      [String(random())],
    )
    const filter: Filter = {}
    for (const key of ['tag', 'author', 'favorited'] as const) {
      if (random() < 0.5) filter[key] = random() < 0.03 ? 'nobody-and-nothing' : (row[key] ?? 'nobody-and-nothing')
    }
    return filter
  }

  /** `count` random lists, feeds and articles, everything that can be counted, and the tags. */
  async function check(random: Random, users: readonly User[], count: number): Promise<void> {
    const viewerOrNobody = () => (random() < 0.3 ? undefined : users[Math.floor(random() * users.length)])
    const limit = () => [1, 7, 20, 20, 100, 250][Math.floor(random() * 6)]!
    const offset = () => (random() < 0.5 ? 0 : Math.floor(random() ** 3 * 2_500))
    const [{ newest }] = await rows(
      'select array(select slug from articles.article order by id desc limit 5) as newest',
    )
    for (const slug of newest) await expectArticle(slug, viewerOrNobody())
    for (let n = 0; n < count; n += 1) {
      const filter = await someFilter(random)
      await expectList(filter, limit(), offset(), viewerOrNobody())
      const [{ slug }] = await rows('select slug from articles.article order by md5(id || $1) limit 1', [random()])
      await expectArticle(slug, viewerOrNobody())
    }
    for (const user of users) {
      for (let n = 0; n < 5; n += 1) await expectFeed(user, limit(), n === 0 ? 0 : offset())
    }
    for (const q of ['tls', 'postgers', 'internals mistakes', 'sql questions', 'measured', 'hot', 'javascript']) {
      const word = q === 'postgers' ? 'postgres' : q
      if (q !== word) assert.equal(foundIn(await api.get(searchPath({ q }))).corrected, word)
      await expectFound(word, {}, viewerOrNobody())
      const { tag, author } = await someFilter(random)
      await expectFound(word, { tag: tag ?? 'javascript' }, viewerOrNobody())
      await expectFound(word, { author: author ?? users[0]!.username }, viewerOrNobody())
    }
    await expectTags()
    await expectEveryTotal()
  }

  return { check }
}

/** The 50 commonest, the commonest first, each with its count. */
function expectCounts<Facet extends { count: number }>(
  given: readonly Facet[],
  nameOf: (facet: Facet) => string,
  truth: Record<string, number>,
  told: string,
): void {
  const commonest = Object.values(truth).sort((a, b) => b - a)
  assert.deepEqual(
    given.map(({ count }) => count),
    commonest.slice(0, 50),
    told,
  )
  for (const facet of given) assert.equal(facet.count, truth[nameOf(facet)], `${told}: ${nameOf(facet)}`)
}

/** Works on `items`, so many at a time. */
export async function inTurn<T>(atATime: number, items: readonly T[], work: (item: T) => Promise<void>): Promise<void> {
  const rest = items.values()
  await Promise.all(
    Array.from({ length: atATime }, async () => {
      for (const item of rest) await work(item)
    }),
  )
}
