import Fastify, { type FastifyRequest } from 'fastify'
import { jwtVerify } from 'jose'
import pg from 'pg'

/**
 * The floor under Conduit: the same four routes on the same tables, as somebody would write them by hand for speed, in
 * Fastify and `pg` alone. One prepared statement a request, joins across what are modules in the app, serialisers from
 * schemas. No request ids, deadlines, security headers, traces, metrics, positions or boundaries.
 *
 * A process of its own: DATABASE_HOST (a socket's folder) and TOKEN_KEY in, its address on standard output.
 */

const pool = new pg.Pool({
  host: process.env.DATABASE_HOST!,
  user: 'app',
  database: 'app',
  max: 10,
})
const key = Buffer.from(process.env.TOKEN_KEY!, 'hex')

/** Checked once, then remembered until it expires, as the app does. */
const known = new Map<string, { id: number; expiresAt: number }>()

async function viewerOf(request: FastifyRequest): Promise<number | null> {
  const { authorization } = request.headers
  if (authorization === undefined) return null
  const token = authorization.slice('Token '.length)
  let found = known.get(token)
  if (!found) {
    const { payload } = await jwtVerify(token, key, { algorithms: ['HS256'], requiredClaims: ['sub', 'exp'] })
    found = { id: Number(payload.sub), expiresAt: payload.exp! }
    if (known.size >= 10_000) known.delete(known.keys().next().value!)
    known.set(token, found)
  }
  if (found.expiresAt <= Date.now() / 1000) throw Object.assign(new Error('the token has expired'), { statusCode: 401 })
  return found.id
}

const text = { type: 'string' }
const textOrNull = { type: ['string', 'null'] }
const date = { type: 'string', format: 'date-time' }
const listed = {
  slug: text,
  title: text,
  description: text,
  tagList: { type: 'array', items: text },
  createdAt: date,
  updatedAt: date,
  favorited: { type: 'boolean' },
  favoritesCount: { type: 'integer' },
  author: {
    type: 'object',
    properties: { username: text, bio: textOrNull, image: textOrNull, following: { type: 'boolean' } },
  },
}
const many = {
  type: 'object',
  properties: {
    articles: { type: 'array', items: { type: 'object', properties: listed } },
    articlesCount: { type: 'integer' },
  },
}
const one = {
  type: 'object',
  properties: { article: { type: 'object', properties: { ...listed, body: text } } },
}
const paging = {
  type: 'object',
  properties: {
    limit: { type: 'integer', minimum: 1, maximum: 100, default: 20 },
    offset: { type: 'integer', minimum: 0, default: 0 },
  },
}

interface Row {
  total: number
  slug: string
  title: string
  description: string
  body?: string
  tag_list: string[]
  created_at: Date
  updated_at: Date
  favorited: boolean
  favorites_count: number
  username: string
  bio: string | null
  image: string | null
  following: boolean
}

function present(row: Row) {
  return {
    slug: row.slug,
    title: row.title,
    description: row.description,
    tagList: row.tag_list,
    createdAt: row.created_at,
    updatedAt: row.updated_at,
    favorited: row.favorited,
    favoritesCount: row.favorites_count,
    author: { username: row.username, bio: row.bio, image: row.image, following: row.following },
    body: row.body,
  }
}

// A prepared plan does not know how short a page is, and would read whole tables for it: `offset 0` keeps each look-up to
// the row that it is for.
const articleColumns = 'id, slug, title, description, tag_list, created_at, updated_at, favorites_count, author_id'
const columns = `a.slug, a.title, a.description, a.tag_list, a.created_at, a.updated_at, a.favorites_count,
  u.username, u.bio, u.image`
const author =
  'cross join lateral (select id, username, bio, image from identity.account where id = a.author_id offset 0) u'
const seenByNobody = 'false as favorited, false as following'
const seenBy = (viewer: string) => `
  exists (select from articles.favorite where account_id = ${viewer} and article_id = a.id) as favorited,
  exists (select from identity.follow where follower_id = ${viewer} and followee_id = u.id) as following`
const articlesCount = '(select coalesce(sum(n), 0)::int from articles.article_count)'
const page = (seen: string) => `
  select ${articlesCount} as total, ${columns}, ${seen}
  from (select ${articleColumns} from articles.article order by id desc limit $1 offset $2) a
  ${author} order by a.id desc`
const feedCount = `
  select coalesce(sum(n), 0)::int as total from identity.follow f
  cross join lateral (select n from articles.author_count where author_id = f.followee_id offset 0) counted
  where f.follower_id = $1`

const statements = {
  list: { name: 'list', text: page(seenByNobody) },
  listSeen: { name: 'list_seen', text: page(seenBy('$3')) },
  count: { name: 'count', text: `select ${articlesCount} as total` },
  slug: {
    name: 'slug',
    text: `select ${columns}, a.body, ${seenByNobody}
      from articles.article a join identity.account u on u.id = a.author_id where a.slug = $1`,
  },
  slugSeen: {
    name: 'slug_seen',
    text: `select ${columns}, a.body, ${seenBy('$2')}
      from articles.article a join identity.account u on u.id = a.author_id where a.slug = $1`,
  },
  feed: {
    name: 'feed',
    text: `select (${feedCount}) as total, ${columns}, true as following,
        exists (select from articles.favorite where account_id = $1 and article_id = a.id) as favorited
      from (
        select newest.id from identity.follow f
        cross join lateral (
          select id from articles.article where author_id = f.followee_id order by id desc limit $2::bigint + $3::bigint
        ) newest
        where f.follower_id = $1 order by newest.id desc limit $2 offset $3
      ) page
      cross join lateral (select ${articleColumns} from articles.article where id = page.id offset 0) a
      ${author} order by a.id desc`,
  },
  feedCount: { name: 'feed_count', text: feedCount },
  tags: {
    name: 'tags',
    text: `select array_agg(tag) as tags from (
        select tag from articles.tag_count group by tag having sum(n) > 0 order by sum(n) desc, tag
      ) used`,
  },
}

const app = Fastify({ logger: false })
const failure = { type: 'object', additionalProperties: true }

app.get('/api/articles', { schema: { querystring: paging, response: { 200: many } } }, async (request) => {
  const { limit, offset } = request.query as { limit: number; offset: number }
  const viewer = await viewerOf(request)
  const { rows } =
    viewer === null
      ? await pool.query<Row>({ ...statements.list, values: [limit, offset] })
      : await pool.query<Row>({ ...statements.listSeen, values: [limit, offset, viewer] })
  const total = rows[0]?.total ?? (await pool.query(statements.count)).rows[0].total
  return { articles: rows.map(present), articlesCount: total }
})

app.get(
  '/api/articles/feed',
  { schema: { querystring: paging, response: { 200: many, 401: failure } } },
  async (request, reply) => {
    const { limit, offset } = request.query as { limit: number; offset: number }
    const viewer = await viewerOf(request)
    if (viewer === null) return reply.status(401).send({ errors: { token: ['is missing'] } })
    const { rows } = await pool.query<Row>({ ...statements.feed, values: [viewer, limit, offset] })
    const total = rows[0]?.total ?? (await pool.query({ ...statements.feedCount, values: [viewer] })).rows[0].total
    return { articles: rows.map(present), articlesCount: total }
  },
)

app.get('/api/articles/:slug', { schema: { response: { 200: one, 404: failure } } }, async (request, reply) => {
  const { slug } = request.params as { slug: string }
  const viewer = await viewerOf(request)
  const { rows } =
    viewer === null
      ? await pool.query<Row>({ ...statements.slug, values: [slug] })
      : await pool.query<Row>({ ...statements.slugSeen, values: [slug, viewer] })
  if (!rows[0]) return reply.status(404).send({ errors: { article: ['not found'] } })
  return { article: present(rows[0]) }
})

app.get(
  '/api/tags',
  { schema: { response: { 200: { type: 'object', properties: { tags: { type: 'array', items: text } } } } } },
  async () => ({ tags: (await pool.query<{ tags: string[] | null }>(statements.tags)).rows[0]!.tags ?? [] }),
)

const url = await app.listen({ host: '127.0.0.1', port: 0 })
process.stdout.write(`${JSON.stringify({ url }, null, 2)}\n`)
process.on('SIGTERM', () => void app.close().then(() => pool.end()))
