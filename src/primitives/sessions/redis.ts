import { defineScript } from '../../engines/redis/client.ts'
import { keyOf, type RedisNodes } from '../../engines/redis/nodes.ts'
import { type ChangedSession, copyMs, type FoundSession, type SessionStore } from './contract.ts'
import { rememberedSessions } from './remembered.ts'

/**
 * Sessions of a store, with copies in Redis that all processes share. The store is the truth.
 *
 *     {app}:session:1:<digest>   a copy, or empty: the session was changed a moment ago
 *
 * A copy ends `copyMs` after the store was asked for it, by the clock of Redis. So whatever becomes of Redis or of the way to it, nothing
 * older is ever found there. While Redis can be reached, a revoked session is gone at once: each change leaves an empty value under the
 * session's digests, which a look-up that began before the change does not overwrite (`NX`), and which stays until that look-up could
 * not store its copy any more. ADR 19 goes through the failures.
 */
export function redisSessions(nodes: RedisNodes, store: SessionStore): SessionStore {
  const remembered = rememberedSessions(store)
  const copyOf = (digest: Uint8Array) => keyOf(nodes, `session:1:${Buffer.from(digest).toString('base64url')}`)

  async function changing(change: Promise<readonly ChangedSession[]>): Promise<readonly ChangedSession[]> {
    const changed = await change
    const copies = changed.flatMap(({ digests }) => digests.map(copyOf))
    // Where this fails the copies end by themselves.
    await Promise.all(copies.map(({ client, key }) => client.call('SET', key, '', 'PX', 2 * copyMs).catch(() => {})))
    return changed
  }

  async function keep(copy: Copy, found: FoundSession, [seconds, microseconds]: RedisTime): Promise<void> {
    const readAt = Number(seconds) * 1000 + Math.floor(Number(microseconds) / 1000)
    const endsAt = readAt + Math.floor(Math.min(copyMs, found.leftMs))
    await copy.client.call('SET', copy.key, JSON.stringify(found), 'PXAT', endsAt, 'NX').catch(() => {})
  }

  return {
    ...remembered,
    async find(digest) {
      const copy = copyOf(digest)
      const answer = await copy.client.script(copyOrTime, [copy.key]).catch(() => undefined)
      if (answer === undefined) return remembered.find(digest)
      if (typeof answer === 'string' && answer !== '') return parse(answer)
      const found = await store.find(digest)
      if (found?.as === 'current' && typeof answer !== 'string') void keep(copy, found, answer as RedisTime)
      return found
    },
    touch: (id) => changing(remembered.touch(id)),
    promote: (id, next, graceMs) => changing(remembered.promote(id, next, graceMs)),
    revoke: (ids) => changing(remembered.revoke(ids)),
    revokeAll: (principal) => changing(remembered.revokeAll(principal)),
  }
}

type Copy = ReturnType<typeof keyOf>
type RedisTime = [seconds: string, microseconds: string]

/** The time is taken before the store is asked. */
const copyOrTime = defineScript("return redis.call('GET', KEYS[1]) or redis.call('TIME')")

function parse(text: string): FoundSession {
  const { session, ...rest } = JSON.parse(text)
  return {
    ...rest,
    session: {
      ...session,
      plan: session.plan,
      createdAt: new Date(session.createdAt),
      seenAt: new Date(session.seenAt),
    },
  }
}
