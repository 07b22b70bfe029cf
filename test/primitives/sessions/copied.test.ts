import assert from 'node:assert/strict'
import { randomBytes, randomUUID } from 'node:crypto'
import { after, afterEach, before, beforeEach, describe, it } from 'node:test'
import type { RedisClient } from '../../../src/engines/redis/client.ts'
import type { Database } from '../../../src/primitives/data/contract.ts'
import type { NewSession, SessionStore } from '../../../src/primitives/sessions/contract.ts'
import { copiedSessions } from '../../../src/primitives/sessions/copied.ts'
import { redisSessionCopies } from '../../../src/primitives/sessions/redis.ts'
import { tableSessionEditions, tableSessions } from '../../../src/primitives/sessions/table.ts'
import { gate } from '../../support/cache.ts'
import { openSystemTables } from '../../support/data.ts'
import { type TestPostgres, testPostgres } from '../../support/postgres.ts'
import { until } from '../../support/process.ts'
import { noRedis, patientRedis, type TestRedis, testRedis } from '../../support/redis.ts'

interface Node {
  store: SessionStore
  client: RedisClient
  /** How often it asked the table. */
  asked(): number
  /** The next answer of the table is kept back until then. Resolves when the table has answered. */
  hold(until: Promise<void>): Promise<void>
}

describe('sessions read through Redis', { skip: noRedis }, () => {
  let postgres: TestPostgres
  let database: Database
  let redis: TestRedis
  let one: Node
  let other: Node
  before(async () => {
    postgres = await testPostgres()
    ;({ database } = await openSystemTables(postgres))
  })
  after(async () => {
    await database.close()
    await postgres.stop()
  })
  beforeEach(async () => {
    redis = await testRedis()
    one = await openNode()
    other = await openNode()
  })
  afterEach(async () => {
    for (const { client } of [one, other]) client.close()
    await redis.stop()
  })

  async function openNode(): Promise<Node> {
    const table = tableSessions(database)
    const client = await patientRedis(redis.url)
    let asked = 0
    let held: { answered(): void; until: Promise<void> } | undefined
    async function find(digest: Uint8Array) {
      asked += 1
      const found = await table.find(digest)
      const holding = held
      held = undefined
      holding?.answered()
      await holding?.until
      return found
    }
    return {
      store: copiedSessions({ ...table, find }, redisSessionCopies(client, 'test'), tableSessionEditions(database)),
      client,
      asked: () => asked,
      hold(until) {
        const { promise, resolve } = Promise.withResolvers<void>()
        held = { answered: resolve, until }
        return promise
      },
    }
  }

  async function fresh(): Promise<NewSession> {
    const session = {
      id: randomUUID(),
      digest: randomBytes(32),
      principal: randomUUID(),
      plan: undefined,
      lifetimeMs: 600_000,
    }
    await one.store.create(session)
    return session
  }

  /** Found, and the table was not asked for it. */
  async function isCopied({ store, asked }: Node, { digest }: NewSession): Promise<boolean> {
    const before = asked()
    assert.ok(await store.find(digest))
    return asked() === before
  }

  async function copied(session: NewSession): Promise<NewSession> {
    for (const node of [one, other]) await until(() => isCopied(node, session), 'it is found in Redis')
    return session
  }

  const isGone = async ({ digest }: NewSession) => {
    assert.deepEqual([await one.store.find(digest), await other.store.find(digest)], [undefined, undefined])
  }

  it('what one has looked up, the other finds; what one revokes, nobody', async () => {
    const [a, b] = [await copied(await fresh()), await copied(await fresh())]
    assert.equal(await one.store.revoke([a.id]), 1)
    await isGone(a)
    assert.equal(await one.store.revokeAll(b.principal), 1)
    await isGone(b)
  })

  it('who signs in anew after all was revoked is found', async () => {
    const session = await copied(await fresh())
    await one.store.revokeAll(session.principal)
    const next = { ...session, id: randomUUID(), digest: randomBytes(32) }
    await one.store.create(next)
    await copied(next)
    await isGone(session)
  })

  for (const how of ['revoke', 'revokeAll'] as const) {
    it(`a look-up that began before ${how} brings nothing back`, async () => {
      await copied(await fresh())
      const session = await fresh()
      const slow = gate()
      const answered = other.hold(slow.opened)
      const finding = other.store.find(session.digest)
      await answered
      if (how === 'revoke') await one.store.revoke([session.id])
      else await one.store.revokeAll(session.principal)
      slow.open()
      assert.ok(await finding, 'it had been asked before')
      await isGone(session)
    })
  }

  it('a server that is killed, and comes back empty', async () => {
    const [a, b] = [await copied(await fresh()), await copied(await fresh())]
    await redis.kill()
    assert.ok(await one.store.find(a.digest))
    await one.store.revoke([a.id])
    await isGone(a)
    await redis.start()
    await copied(b)
    await isGone(a)
  })

  it('a server that hangs, and goes on', async () => {
    const [a, b] = [await copied(await fresh()), await copied(await fresh())]
    redis.hang()
    assert.ok(await one.store.find(a.digest))
    const revoking = one.store.revoke([a.id])
    await new Promise((resolve) => setTimeout(resolve, 50))
    redis.goOn() // it may still be told, or not
    await revoking
    await isGone(a)
    await copied(b)
    await isGone(a)
  })

  it('a server that is flushed is filled again', async () => {
    const [a, b] = [await copied(await fresh()), await copied(await fresh())]
    const slow = gate()
    const session = await fresh()
    const answered = other.hold(slow.opened)
    const finding = other.store.find(session.digest)
    await answered
    await one.client.call('FLUSHALL')
    await one.store.revoke([session.id])
    slow.open()
    await finding
    await isGone(session)
    await copied(a)
    await one.store.revoke([b.id])
    await isGone(b)
  })

  it('a server that comes back with an old dump', async () => {
    const [a, b] = [await copied(await fresh()), await copied(await fresh())]
    await one.client.call('SAVE')
    await one.store.revoke([a.id])
    await redis.kill()
    await redis.start()
    await until(() => one.client.isUp && other.client.isUp, 'they are connected')
    assert.ok(Number(await one.client.call('DBSIZE')) > 0, 'it has what it had')
    await isGone(a)
    await copied(b)
    await isGone(a)
  })

  it('who cannot reach it revokes what others find there', async () => {
    const session = await copied(await fresh())
    one.client.close()
    await one.store.revoke([session.id])
    await isGone(session)
    const next = await fresh()
    await until(() => isCopied(other, next), 'the other goes on with it')
  })

  it('only copies of the one server that counts are believed', async () => {
    const session = await copied(await fresh())
    const second = await testRedis()
    one.client.close()
    const client = await patientRedis(second.url) // another primary, of which the other node has not heard
    const moved = copiedSessions(
      tableSessions(database),
      redisSessionCopies(client, 'test'),
      tableSessionEditions(database),
    )
    await moved.revoke([session.id])
    assert.equal(await other.store.find(session.digest), undefined)
    client.close()
    await second.stop()
  })
})
