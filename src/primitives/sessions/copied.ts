import { after, type Clock, sleep, systemClock } from '../../kernel/clock.ts'
import type { Found, SessionStore } from './contract.ts'
import type { Copy, Edition, SessionCopies, SessionEditions } from './copies.ts'

/** What changes is forgotten; this is only so that nothing is kept of who has gone. */
const copyMs = 60_000
/** The edition is looked up this often while sessions are asked for … */
const lookEveryMs = 250
/** … and known for this long. */
const knownMs = 600
const unusedMs = 10_000
/** Copies that failed are left alone for so long: who asks for a session need not wait for that again. */
const restMs = 500

/**
 * Sessions of a store, read through copies that all processes share. The store is the truth: where the copies cannot be reached,
 * or are not known to be those that count, it is asked.
 *
 * A revocation is told to the copies before it returns. Where that cannot be done, another process may still reach them: so a
 * new edition begins, and the revocation waits until nobody believes in the old one any more.
 */
export function copiedSessions(
  store: SessionStore,
  copies: SessionCopies,
  editions: SessionEditions,
  clock: Clock = systemClock,
): SessionStore {
  let known: (Edition & { at: number }) | undefined
  let usedAt = Number.NEGATIVE_INFINITY
  let restUntil = Number.NEGATIVE_INFINITY
  let isLooking = false

  /** The edition, while it is certain, and of the engine that is asked here. */
  function certain(): string | undefined {
    if (known === undefined || clock.ticks() - known.at >= knownMs) return undefined
    return counts(known) ? known.number : undefined
  }

  function counts(edition: Edition): boolean {
    return copies.engine !== undefined && edition.engine === copies.engine
  }

  async function look(): Promise<void> {
    const at = clock.ticks() // before it is asked
    const edition = await editions.current()
    known = { ...edition, at }
    if (copies.engine !== undefined && !counts(edition)) await editions.renew(copies.engine) // seen with the next look
  }

  /** For as long as somebody asks for sessions; then it ends by itself. */
  function keepLooking(): void {
    usedAt = clock.ticks()
    if (isLooking) return
    isLooking = true
    const again = () => {
      if (clock.ticks() - usedAt > unusedMs) isLooking = false
      else look().then(later, later)
    }
    const later = () => void after(lookEveryMs, again)
    again()
  }

  async function find(digest: Uint8Array): Promise<Found | undefined> {
    keepLooking()
    const number = certain()
    if (number === undefined || clock.ticks() < restUntil) return store.find(digest)
    const asked = await copies.find(number, digest).catch(() => {
      restUntil = clock.ticks() + restMs
    })
    if (!asked || certain() !== number) return store.find(digest) // also if it took so long that it is not certain any more
    const copied = 'copy' in asked ? aged(asked.copy) : undefined
    if (copied) return copied
    const found = await store.find(digest)
    if (found && 'ticket' in asked) {
      const ms = Math.floor(Math.min(copyMs, found.leftMs))
      copies.keep(number, digest, found, asked.ticket, ms).catch(() => {})
    }
    return found
  }

  /** Gives whether no copy of what was before can be found, nor come to be. */
  async function forget(who: { ids: readonly string[] } | { principal: string }): Promise<boolean> {
    const number = certain() ?? (await editions.current()).number
    const told = await copies.forget(number, who, true).then(
      () => true,
      () => false,
    )
    // Others may believe in another edition, or another engine, by now.
    const now = told ? await editions.current() : undefined
    if (now && now.number === number && counts(now)) return true
    await editions.renew(copies.engine)
    return false
  }

  async function forgetRevoked(who: { ids: readonly string[] } | { principal: string }): Promise<void> {
    if (!(await forget(who))) await sleep(knownMs)
  }

  /** An old copy does no harm: it is used for something that is done already. */
  async function forgetQuietly(id: string): Promise<void> {
    if (known && counts(known)) await copies.forget(known.number, { ids: [id] }, false).catch(() => {})
  }

  return {
    create: (session) => store.create(session),
    find,
    async seen(id) {
      await store.seen(id)
      await forgetQuietly(id)
    },
    async announce(id, next) {
      await store.announce(id, next)
      await forgetQuietly(id)
    },
    async promote(id, next, graceMs) {
      await store.promote(id, next, graceMs)
      await forget({ ids: [id] }) // else who uses the old secret would not be noticed
    },
    async revoke(ids) {
      const n = await store.revoke(ids)
      if (ids.length > 0) await forgetRevoked({ ids })
      return n
    },
    async revokeAll(principal) {
      const n = await store.revokeAll(principal)
      await forgetRevoked({ principal })
      return n
    },
    list: (principal) => store.list(principal),
    prune: (idleMs, max) => store.prune(idleMs, max),
  }
}

/** As it would be found now; `undefined` where the store must say. */
function aged({ found, ageMs: told }: Copy): Found | undefined {
  const ageMs = Math.max(0, told) // the engine's clock may be set back
  const { leftMs, graceMs, idleMs, secretAgeMs } = found
  if (leftMs <= ageMs) return undefined
  return {
    ...found,
    idleMs: idleMs + ageMs,
    secretAgeMs: secretAgeMs + ageMs,
    leftMs: leftMs - ageMs,
    graceMs: graceMs - ageMs,
  }
}
