import { type Clock, systemClock } from '../../kernel/clock.ts'
import { type ChangedSession, copyMs, type FoundSession, type SessionStore } from './contract.ts'

const sessionsMax = 10_000

/**
 * The store, and a memory of this process for what it found in the last `copyMs`. Changes that are made here are known here at once.
 *
 * Only sessions found by their current secret are remembered: what the others lead to, a promotion or the discovery of a thief, must
 * not be delayed.
 */
export function rememberedSessions(store: SessionStore, clock: Clock = systemClock): SessionStore {
  const memory = new Map<string, { found: FoundSession; until: number }>()
  let changes = 0

  async function changing(change: Promise<readonly ChangedSession[]>): Promise<readonly ChangedSession[]> {
    const changed = await change
    changes += 1
    for (const digest of changed.flatMap(({ digests }) => digests)) memory.delete(textOf(digest))
    return changed
  }

  return {
    ...store,
    async find(digest) {
      const readAt = clock.ticks()
      const key = textOf(digest)
      const known = memory.get(key)
      if (known && readAt < known.until) return known.found
      memory.delete(key)
      const before = changes
      const found = await store.find(digest)
      if (found?.as !== 'current' || before !== changes) return found
      if (memory.size >= sessionsMax) memory.delete(memory.keys().next().value!)
      memory.set(key, { found, until: readAt + Math.min(copyMs, found.leftMs) })
      return found
    },
    touch: (id) => changing(store.touch(id)),
    promote: (id, next, graceMs) => changing(store.promote(id, next, graceMs)),
    revoke: (ids) => changing(store.revoke(ids)),
    revokeAll: (principal) => changing(store.revokeAll(principal)),
  }
}

function textOf(digest: Uint8Array): string {
  return Buffer.from(digest).toString('base64url')
}
