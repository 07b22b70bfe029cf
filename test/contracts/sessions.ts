import assert from 'node:assert/strict'
import { randomBytes, randomUUID } from 'node:crypto'
import { after, before, describe, it } from 'node:test'
import { setTimeout as wait } from 'node:timers/promises'
import type { ChangedSession, NewSession, SessionStore } from '../../src/primitives/sessions/contract.ts'
import { until } from '../support/process.ts'

const day = 86_400_000

const idsOf = (changed: readonly ChangedSession[]) => changed.map(({ id }) => id).sort()

export interface SessionsUnderTest {
  store: SessionStore
  /** The same sessions, as another process sees them. */
  other: SessionStore
  close(): Promise<void>
}

/** What every adapter of the sessions' contract keeps. `lateMs`: how long another process may still find a revoked session. */
export function sessionsContract(name: string, open: () => Promise<SessionsUnderTest>, lateMs = 0): void {
  describe(`sessions contract: ${name}`, () => {
    let store: SessionStore
    let other: SessionStore
    let close = async () => {}
    before(async () => {
      const opened = await open()
      store = opened.store
      other = opened.other
      close = opened.close
    })
    after(() => close())

    async function fresh(more: Partial<NewSession> = {}): Promise<NewSession> {
      const one = {
        id: randomUUID(),
        digest: randomBytes(32),
        principal: randomUUID(),
        plan: undefined,
        lifetimeMs: day,
        ...more,
      }
      await store.create(one)
      return one
    }

    it('finds what was created, and nothing else', async () => {
      const one = await fresh({ plan: 'pro' })
      const found = await store.find(one.digest)
      assert.ok(found)
      assert.deepEqual([found.session.id, found.session.principal, found.session.plan], [one.id, one.principal, 'pro'])
      assert.ok(found.session.createdAt instanceof Date && found.session.seenAt instanceof Date)
      assert.equal(found.as, 'current')
      assert.ok(found.idleMs >= 0 && found.idleMs < 60_000 && found.secretAgeMs >= 0 && found.secretAgeMs < 60_000)
      assert.ok(found.leftMs > day - 60_000 && found.leftMs <= day)
      assert.equal(await store.find(randomBytes(32)), undefined)
    })

    it('changes the secret once the new one is used; the old one has a grace', async () => {
      const one = await fresh()
      const next = randomBytes(32)
      await store.announce(one.id, next)
      await store.announce(one.id, next)
      assert.equal((await store.find(one.digest))?.as, 'current', 'its holder may not have heard')
      assert.equal((await store.find(next))?.as, 'next')
      await Promise.all([store.promote(one.id, next, 5_000), store.promote(one.id, next, 5_000)])
      assert.equal((await store.find(next))?.as, 'current')
      const old = await store.find(one.digest)
      assert.ok(old?.as === 'previous' && old.graceMs > 0 && old.graceMs <= 5_000)
      await store.announce(one.id, next) // by a request with the old one, late
      assert.equal((await store.find(next))?.as, 'current')
      const third = randomBytes(32)
      await store.announce(one.id, third)
      await store.promote(one.id, third, 1)
      assert.equal(await store.find(one.digest), undefined)
      await wait(5)
      const previous = await store.find(next)
      assert.ok(previous?.as === 'previous' && previous.graceMs <= 0)
    })

    it('notes that it is in use', async () => {
      const one = await fresh()
      await wait(60)
      assert.ok((await store.find(one.digest))!.idleMs >= 50)
      await store.touch(one.id)
      assert.ok((await store.find(one.digest))!.idleMs < 50)
    })

    it('ends with its lifetime', async () => {
      const one = await fresh({ lifetimeMs: 30 })
      await until(async () => (await store.find(one.digest)) === undefined, 'it is over')
      assert.deepEqual(await store.list(one.principal), [])
    })

    it('revokes one, or all of a principal', async () => {
      const principal = randomUUID()
      const [a, b, c, stranger] = [
        await fresh({ principal }),
        await fresh({ principal }),
        await fresh({ principal }),
        await fresh(),
      ]
      assert.deepEqual((await store.list(principal)).map(({ id }) => id).sort(), [a.id, b.id, c.id].sort())
      assert.deepEqual(idsOf(await store.revoke([a.id])), [a.id])
      assert.deepEqual(await store.revoke([a.id]), [])
      assert.equal(await store.find(a.digest), undefined)
      assert.deepEqual(idsOf(await store.revokeAll(principal)), [b.id, c.id].sort())
      assert.deepEqual([await store.find(b.digest), await store.find(c.digest)], [undefined, undefined])
      assert.ok(await store.find(stranger.digest))
    })

    it('shows a change to every process, whichever secret the session is found by', async () => {
      const one = await fresh()
      const [second, third] = [randomBytes(32), randomBytes(32)]
      const seen = async () => {
        const found = await Promise.all([one.digest, second, third].map((digest) => other.find(digest)))
        return found.map((each) => each?.as)
      }
      const shows = async (expected: (string | undefined)[]) => {
        await wait(lateMs)
        assert.deepEqual(await seen(), expected)
      }
      await shows(['current', undefined, undefined])
      await store.announce(one.id, second)
      await store.promote(one.id, second, 60_000)
      await shows(['previous', 'current', undefined])
      await store.announce(one.id, third)
      await shows(['previous', 'current', 'next'])
      await store.promote(one.id, third, 60_000)
      await shows([undefined, 'previous', 'current'])
      await store.revoke([one.id])
      await shows([undefined, undefined, undefined])
    })

    it('forgets what is over or idle, and only that', async () => {
      const over = await fresh({ lifetimeMs: 1 })
      const kept = await fresh()
      await until(async () => (await store.prune(day, 10)) >= 1, 'it is over')
      assert.equal(await store.find(over.digest), undefined)
      assert.ok(await store.find(kept.digest))
      await wait(20)
      assert.ok((await store.prune(10, 1)) === 1)
    })
  })
}
