import { SignJWT } from 'jose'
import { emailOf, seedPassword } from '../../examples/conduit/seed/users.ts'
import { connectOnce } from '../../src/engines/postgres/client.ts'
import { attachEmbedded } from '../../src/engines/postgres/embedded.ts'
import { seededRandom } from '../../src/kernel/random.ts'
import type { LoadRequest } from './load.ts'
import { stationary } from './traces.ts'

/** What is asked for: the routes that the claims speak of, on a seeded database. */

export const routes = ['list', 'slug', 'feed', 'tags'] as const
export type Route = (typeof routes)[number]
export type Requests = Record<Route, LoadRequest[]>

/** Requests in one round: about as long for each. */
export const countOf: Record<Route, number> = { list: 5_000, slug: 12_000, feed: 4_000, tags: 2_000 }

const slugsMax = 5_000
const listsMax = 100
const viewersMax = 50
/** So that feeds of databases of different sizes are feeds of equal people. */
const followsOfViewer = 20

export interface Viewer {
  id: number
  username: string
}

export interface Scene {
  slugs: string[]
  viewers: Viewer[]
  postgres: string
}

/** Slugs from all over the table, and people who follow about twenty others. */
export async function sceneOf(dataDir: string): Promise<Scene> {
  const server = await attachEmbedded({ root: dataDir, connectionsMax: 60 })
  const client = await connectOnce(server.connection)
  try {
    const slugs = await client.query(`select slug from articles.article order by md5(id::text) limit ${slugsMax}`)
    const viewers = await client.query(
      `select id, username from identity.account
        join (select follower_id as id, count(*) as n from identity.follow group by follower_id) follows using (id)
        order by abs(n - ${followsOfViewer}), id limit ${viewersMax}`,
    )
    const version = await client.query('show server_version')
    return {
      slugs: slugs.rows.map(({ slug }) => slug),
      viewers: viewers.rows,
      postgres: version.rows[0].server_version.split(' ')[0],
    }
  } finally {
    await client.end()
    await server.stop()
  }
}

export function requestsOf({ slugs }: Scene, tokens: readonly string[]): Requests {
  return {
    // Not all the same one: those that come together would be one look-up.
    list: Array.from({ length: listsMax }, (_, n) => ({ path: `/api/articles?limit=20&offset=${n}` })),
    slug: slugs.map((slug) => ({ path: `/api/articles/${slug}` })),
    feed: tokens.map((token) => ({ path: '/api/articles/feed', headers: { authorization: `Token ${token}` } })),
    tags: [{ path: '/api/tags' }],
  }
}

/** Half articles, three of ten lists, feeds of ten people, tags. */
export function mixOf({ list, slug, feed, tags }: Requests): LoadRequest[] {
  const random = seededRandom(11)
  const pick = <T>(from: readonly T[]) => from[Math.floor(random() * from.length)]!
  return Array.from({ length: 1_000 }, () => {
    const kind = random()
    if (kind < 0.5) return pick(slug)
    if (kind < 0.8) return pick(list)
    return pick(kind < 0.95 ? feed : tags)
  })
}

const traceLength = 20_000

/**
 * What comes to a site that people read more than they write to: popular articles and first pages far more often (Zipf, exponent 0.9), a fifth of all
 * signed in, one request in twenty a comment or a favorite.
 */
export function traceOf({ slugs }: Scene, tokens: readonly string[]): LoadRequest[] {
  const random = seededRandom(13)
  const [article, page] = [stationary(slugs.length, traceLength, 0.9), stationary(listsMax, traceLength, 0.9)]
  return Array.from({ length: traceLength }, (_, n): LoadRequest => {
    const kind = random()
    const path = `/api/articles/${slugs[article[n]!]}`
    const headers = { authorization: `Token ${tokens[Math.floor(random() * tokens.length)]}` }
    if (kind < 0.45) return { path }
    if (kind < 0.52) return { path: `${path}/comments` }
    if (kind < 0.75) return { path: `/api/articles?limit=20&offset=${20 * page[n]!}` }
    if (kind < 0.8) return { path: '/api/tags' }
    if (kind < 0.95) return { path: '/api/articles/feed', headers }
    if (kind < 0.975) return { method: random() < 0.5 ? 'POST' : 'DELETE', path: `${path}/favorite`, headers }
    return { method: 'POST', path: `${path}/comments`, headers, body: { comment: { body: `Comment ${n}` } } }
  })
}

/** From the app itself. */
export async function logIn(url: string, viewers: readonly Viewer[]): Promise<string[]> {
  const tokens: string[] = []
  for (const { username } of viewers) {
    const response = await fetch(`${url}/api/users/login`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ user: { email: emailOf(username), password: seedPassword } }),
    })
    if (!response.ok) throw new Error(`${username} was not signed in: ${response.status} ${await response.text()}`)
    const { user } = (await response.json()) as { user: { token: string } }
    tokens.push(user.token)
  }
  return tokens
}

export function signFor(key: Uint8Array, viewers: readonly Viewer[]): Promise<string[]> {
  return Promise.all(
    viewers.map(({ id }) =>
      new SignJWT()
        .setProtectedHeader({ alg: 'HS256', typ: 'JWT' })
        .setSubject(String(id))
        .setIssuedAt()
        .setExpirationTime('60d')
        .sign(key),
    ),
  )
}
