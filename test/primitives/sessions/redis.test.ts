import assert from 'node:assert/strict'
import { randomBytes, randomUUID } from 'node:crypto'
import { after, afterEach, before, beforeEach, describe, it } from 'node:test'
import { setTimeout as wait } from 'node:timers/promises'
import { openRedis, type RedisClient } from '../../../src/engines/redis/client.ts'
import { placeOf } from '../../../src/kernel/spread.ts'
import type { Database } from '../../../src/primitives/data/contract.ts'
import { copyMs, type NewSession, type SessionStore } from '../../../src/primitives/sessions/contract.ts'
import { redisSessions } from '../../../src/primitives/sessions/redis.ts'
import { tableSessions } from '../../../src/primitives/sessions/table.ts'
import { gate } from '../../support/cache.ts'
import { openSystemTables } from '../../support/data.ts'
import { type TestPostgres, testPostgres } from '../../support/postgres.ts'
import { until } from '../../support/process.ts'
import { loneNode, noRedis, patientRedis, type TestRedis, testRedis } from '../../support/redis.ts'
import { openCluster, testRedisCluster } from '../../support/redis-cluster.ts'

/** A store with a connection of its own, as another process has it. */
interface Process {
  store: SessionStore
  client: RedisClient
  /** How often it has asked the table. */
  asked(): number
  /** Keeps the table's next answer back until then. Resolves when the table has answered. */
  hold(until: Promise<void>): Promise<void>
}

describe('sessions with copies in Redis', { skip: noRedis }, () => {
  let postgres: TestPostgres
  let database: Database
  let redis: TestRedis
  let one: Process
  let other: Process
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
    one = await openProcess(patientRedis)
    other = await openProcess(patientRedis)
  })
  afterEach(async () => {
    for (const { client } of [one, other]) client.close()
    await redis.stop()
  })

  async function openProcess(open: (url: string) => Promise<RedisClient>): Promise<Process> {
    const table = tableSessions(database)
    const client = await open(redis.url)
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
      store: redisSessions(loneNode(client), { ...table, find }),
      client,
      asked: () => asked,
      hold(until) {
        const { promise, resolve } = Promise.withResolvers<void>()
        held = { answered: resolve, until }
        return promise
      },
    }
  }

  /** Connections that give up as soon as those of an app, for servers that hang. */
  async function withImpatientClients(): Promise<void> {
    for (const { client } of [one, other]) client.close()
    const open = (url: string) => openRedis({ url })
    one = await openProcess(open)
    other = await openProcess(open)
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

  /** Whether it is found without asking the table. */
  async function isCopied({ store, asked }: Process, { digest }: NewSession): Promise<boolean> {
    const before = asked()
    assert.ok(await store.find(digest))
    return asked() === before
  }

  async function copied(session: NewSession): Promise<NewSession> {
    for (const process of [one, other]) await until(() => isCopied(process, session), 'it is found in Redis')
    return session
  }

  async function isGone({ digest }: NewSession): Promise<void> {
    assert.deepEqual([await one.store.find(digest), await other.store.find(digest)], [undefined, undefined])
  }

  /** Begins a look-up in the other process that has read the table, and does not go on before `finish`. */
  async function slowLookUp({ digest }: NewSession): Promise<{ finish(): Promise<unknown> }> {
    const slow = gate()
    const answered = other.hold(slow.opened)
    const finding = other.store.find(digest)
    await answered
    return {
      finish() {
        slow.open()
        return finding
      },
    }
  }

  it('finds in one process what another has looked up, and in no process what one has revoked', async () => {
    const [a, b] = [await copied(await fresh()), await copied(await fresh())]
    assert.equal((await one.store.revoke([a.id])).length, 1)
    await isGone(a)
    assert.equal((await one.store.revokeAll(b.principal)).length, 1)
    await isGone(b)
  })

  it('finds a session that begins after all of its principal were revoked', async () => {
    const session = await copied(await fresh())
    await one.store.revokeAll(session.principal)
    const next = { ...session, id: randomUUID(), digest: randomBytes(32) }
    await one.store.create(next)
    await copied(next)
    await isGone(session)
  })

  for (const how of ['revoke', 'revokeAll'] as const) {
    it(`copies nothing that was read before ${how}`, async () => {
      const session = await fresh()
      const lookUp = await slowLookUp(session)
      if (how === 'revoke') await one.store.revoke([session.id])
      else await one.store.revokeAll(session.principal)
      assert.ok(await lookUp.finish(), 'it had been asked before')
      await isGone(session)
    })
  }

  it('copies nothing that was read before a revocation which Redis has forgotten meanwhile', async () => {
    const session = await fresh()
    const lookUp = await slowLookUp(session)
    await one.store.revoke([session.id])
    await until(async () => Number(await one.client.call('DBSIZE')) === 0, 'nothing tells of the revocation')
    await lookUp.finish()
    await isGone(session)
  })

  it('copies nothing that waits in the socket of a server that hangs until after a revocation', async () => {
    await withImpatientClients()
    const session = await fresh()
    const lookUp = await slowLookUp(session)
    redis.hang()
    await lookUp.finish()
    await one.store.revoke([session.id])
    await wait(copyMs)
    redis.goOn()
    await until(() => one.client.isUp && other.client.isUp, 'they are connected')
    await isGone(session)
  })

  it('finds sessions while the server hangs, and nothing revoked a second after the revocation', async () => {
    await withImpatientClients()
    const [a, b] = [await copied(await fresh()), await copied(await fresh())]
    redis.hang()
    assert.ok(await one.store.find(a.digest))
    await one.store.revoke([a.id])
    assert.equal(await one.store.find(a.digest), undefined, 'the process itself knows at once')
    redis.goOn()
    await wait(copyMs)
    await isGone(a)
    await copied(b)
    await isGone(a)
  })

  it('finds sessions while the server is dead, and nothing revoked when it comes back empty', async () => {
    const [a, b] = [await copied(await fresh()), await copied(await fresh())]
    await redis.kill()
    assert.ok((await one.store.find(a.digest)) && (await other.store.find(a.digest)))
    await one.store.revoke([a.id])
    await wait(copyMs)
    await isGone(a)
    await redis.start()
    await copied(b)
    await isGone(a)
  })

  it('finds nothing revoked in an old dump, a second after the revocation', async () => {
    const [a, b] = [await copied(await fresh()), await copied(await fresh())]
    await one.client.call('SAVE')
    await one.store.revoke([a.id])
    await redis.kill()
    await redis.start()
    await until(() => one.client.isUp && other.client.isUp, 'they are connected')
    await wait(copyMs)
    await isGone(a)
    await copied(b)
  })

  it('finds nothing that was revoked by a process without Redis, a second after the revocation', async () => {
    const session = await copied(await fresh())
    one.client.close()
    await one.store.revoke([session.id])
    await wait(copyMs)
    await isGone(session)
    const next = await fresh()
    await until(() => isCopied(other, next), 'the other process goes on with Redis')
  })
})

describe('copies of sessions in a cluster of three, of which one node is dead', { skip: noRedis }, () => {
  it('are found, and a revoked session is refused: at once where its node lives, otherwise within a second', async () => {
    const postgres = await testPostgres()
    const { database } = await openSystemTables(postgres)
    const cluster = await testRedisCluster()
    const clients = [await openCluster(cluster), await openCluster(cluster)]
    const [one, other] = clients.map((nodes) => redisSessions(nodes, tableSessions(database)))
    const sessions = Array.from({ length: 60 }, () => ({
      ...{ id: randomUUID(), digest: randomBytes(32), principal: randomUUID(), plan: undefined, lifetimeMs: 600_000 },
    }))
    for (const session of sessions) await one!.create(session)
    const homeOf = ({ digest }: NewSession) => placeOf(`session:1:${Buffer.from(digest).toString('base64url')}`, 3)
    assert.deepEqual(new Set(sessions.map(homeOf)), new Set([0, 1, 2]))
    await cluster.nodes[1]!.kill()
    for (const { digest } of sessions) for (const store of [one, other]) assert.ok(await store!.find(digest))
    await one!.revoke(sessions.map(({ id }) => id))
    for (const session of sessions) {
      assert.equal(await one!.find(session.digest), undefined)
      if (homeOf(session) !== 1) assert.equal(await other!.find(session.digest), undefined)
      else await until(async () => (await other!.find(session.digest)) === undefined, 'the other process knows it')
    }
    for (const { client } of clients.flat()) client.close()
    await cluster.stop()
    await database.close()
    await postgres.stop()
  })
})
