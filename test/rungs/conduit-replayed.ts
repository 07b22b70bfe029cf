import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { conduitClient, type Target, unique } from './conduit-client.ts'
import type { Beside } from './conduit-extended.ts'
import { visitor } from './conduit-visitor.ts'

interface Recorded {
  method: string
  /** Path and query. */
  path: string
  headers: Headers
  body: RequestInit['body']
  status: number
  by: 'token' | 'session'
}

export interface Recording {
  /** Each different request that somebody was known by. */
  readonly requests: Map<string, Recorded>
  stop(): void
}

/** They show who somebody is, or they end what the replays need. */
const ofIdentity = /^\/(api\/users(\/login)?|login|register|logout)([/?]|$)/

/** They may change the password, which ends the tokens and sessions of before. */
const isOfAccount = ({ method, path }: Recorded) => method !== 'GET' && /^\/(api\/user|settings)$/.test(path)

/** Records what the tests of this process send with a good token or session, until it is stopped. */
export function recordRequests(target: Target): Recording {
  const requests = new Map<string, Recorded>()
  const { fetch } = globalThis
  globalThis.fetch = async (input, init = {}) => {
    const answer = await fetch(input, init)
    const url = new URL(String(input))
    const path = url.pathname + url.search
    if (url.origin !== new URL(target().baseUrl).origin || ofIdentity.test(path)) return answer
    const headers = new Headers(init.headers)
    const by = headers.has('authorization') ? 'token' : /(^|; )session=/.test(headers.get('cookie') ?? '') && 'session'
    if (!by || answer.status === 401) return answer
    const { method = 'GET', body } = init
    const one: Recorded = { method, path, headers, body, status: answer.status, by }
    requests.set(`${by} ${method} ${path} ${body instanceof FormData ? [...body.keys()] : body}`, one)
    return answer
  }
  return {
    requests,
    stop() {
      globalThis.fetch = fetch
    },
  }
}

/** What belongs to anybody but these accounts: all that they could change, without what others cause by their own doing. */
const rowsOfOthers = `
  select 'account' as what, to_jsonb(t) as row from identity.account t where id <> all($1)
  union all select 'follow', to_jsonb(t) from identity.follow t where follower_id <> all($1)
  union all select 'article', to_jsonb(t) - 'favorites_count' from articles.article t where author_id <> all($1)
  union all select 'tag', to_jsonb(t) from articles.article_tag t where author_id <> all($1)
  union all select 'favorite', to_jsonb(t) from articles.favorite t where account_id <> all($1)
  union all select 'comment', to_jsonb(t) from comments.comment t where author_id <> all($1)
  union all select 'export', jsonb_build_object('id', id, 'account', account_id) from exports.export t where account_id <> all($1)
  union all select 'picture', to_jsonb(t) from avatars.upload t where account_id <> all($1)
  union all select 'notification', to_jsonb(t) - 'digested_at' from notifications.notification t
    where account_id <> all($1) and actor_id <> all($1)
  union all select 'preference', to_jsonb(t) - 'next_digest_at' from notifications.preference t where account_id <> all($1)
  order by 1, 2`

const atATime = 6

/** Each recorded request again, as somebody else and as nobody: they change nothing that is not theirs, and read nothing private. */
export function replayTests(target: Target, recording: () => Recording, { query }: Pick<Beside, 'query'>): void {
  describe('requests of others', () => {
    it('sent again by somebody else or nobody, change and tell nothing that is not theirs', async (t) => {
      recording().stop()
      const requests = [...recording().requests.values()]
      const api = conduitClient(target)
      // No password of theirs is one that a recorded request may name.
      const stranger = await api.person({ password: unique('their own password') })
      const guest = visitor(target)
      const { email: guestEmail, username: guestName } = await guest.signUp()
      const names = [stranger.username, guestName]
      const ids = (
        await query<{ id: string }>('select id from identity.account where username = any($1)', [names])
      ).map(({ id }) => id)
      const statuses: Record<string, Record<number, number>> = { stranger: {}, nobody: {} }

      async function send(one: Recorded, as: 'stranger' | 'nobody') {
        const { method, path, headers: recorded, body, by } = one
        const headers = new Headers(recorded)
        headers.delete('authorization')
        headers.delete('cookie')
        if (as === 'stranger' && by === 'token') headers.set('authorization', `Token ${stranger.token}`)
        if (as === 'stranger' && by === 'session') headers.set('cookie', `session=${guest.cookies.get('session')}`)
        const response = await fetch(target().baseUrl + path, {
          method,
          headers,
          redirect: 'manual',
          signal: AbortSignal.timeout(30_000),
          ...(body === undefined ? {} : { body }),
        })
        const counts = statuses[as]!
        counts[response.status] = (counts[response.status] ?? 0) + 1
        const text = await response.text()
        if (as === 'stranger' && isOfAccount(one)) {
          if (response.status === 200 && by === 'token') stranger.token = JSON.parse(text).user.token
          const cookie = /^session=([^;]+)/.exec(response.headers.getSetCookie().join('\n'))?.[1]
          if (cookie !== undefined) guest.cookies.set('session', cookie)
        }
        return { status: response.status, text }
      }
      const emailsIn = (text: string) => text.match(/[\w.+-]+@example\.com/g) ?? []
      /** Theirs, and those that they have asked for themselves. */
      const own = new Set([stranger.email, guestEmail])
      async function judge(one: Recorded): Promise<void> {
        const told = `${one.method} ${one.path}, which was answered ${one.status}`
        const [again, anonymous] = [await send(one, 'stranger'), await send(one, 'nobody')]
        for (const { status } of [again, anonymous]) assert.ok(status < 500, `${told}, now ${status}`)
        const isWrite = !['GET', 'HEAD', 'OPTIONS'].includes(one.method)
        const isCounter = /\/views$/.test(one.path) // anybody may look
        if (isWrite && !isCounter) {
          assert.ok(anonymous.status >= 300, `${told}: nobody is answered ${anonymous.status} ${anonymous.text}`)
        }
        const sent = typeof one.body === 'string' || one.body instanceof URLSearchParams ? String(one.body) : ''
        for (const email of emailsIn(sent.replaceAll('%40', '@'))) own.add(email)
        const publicOnes = new Set(emailsIn(anonymous.text))
        const foreign = emailsIn(again.text).filter((email) => !own.has(email) && !publicOnes.has(email))
        assert.deepEqual(foreign, [], `${told}: somebody else is told ${again.text.slice(0, 500)}`)
        if (/^\/api\/user([/?]|$)/.test(one.path)) assert.ok(anonymous.status >= 400, `${told}: nobody is answered`)
      }
      const before = await query<{ what: string; row: unknown }>(rowsOfOthers, [ids])
      const failures: unknown[] = []
      const replay = async (queue: Iterable<Recorded>) => {
        for (const one of queue) await judge(one).catch((error) => failures.push(error.message))
      }
      const queue = requests.filter((one) => !isOfAccount(one)).values()
      await Promise.all(Array.from({ length: atATime }, () => replay(queue)))
      assert.equal(statuses.stranger![401], undefined, 'they were known each time')
      await replay(requests.filter(isOfAccount))
      assert.deepEqual(failures, [])
      const lines = (all: typeof before) => new Set(all.map(({ what, row }) => `${what} ${JSON.stringify(row)}`))
      const [was, is] = [lines(before), lines(await query(rowsOfOthers, [ids]))]
      const changed = [...was, ...is].filter((line) => !was.has(line) || !is.has(line)).slice(0, 10)
      assert.deepEqual(changed, [], 'rows of others, before or after')
      t.diagnostic(`${requests.length} requests; ${before.length} rows of others; ${JSON.stringify(statuses)}`)
      assert.ok(requests.length > 50 && before.length > 50)
      const refused = Object.entries(statuses.nobody!).filter(([status]) => status === '401')
      assert.ok(refused.length > 0, 'some are for those who signed in alone')
    })
  })
}
