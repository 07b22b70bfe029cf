import assert from 'node:assert/strict'
import path from 'node:path'
import { after, before, describe, it } from 'node:test'
import { openProxy } from '../../../src/chaos/proxy.ts'
import { connectOnce } from '../../../src/engines/postgres/client.ts'
import type { InvalidationLog } from '../../../src/primitives/cache/contract.ts'
import { redisLayer } from '../../../src/primitives/cache/redis.ts'
import { SharedCache } from '../../../src/primitives/cache/shared.ts'
import { tableLog } from '../../../src/primitives/cache/table.ts'
import { eventually, gate, getPage, session } from '../../support/cache.ts'
import { bare, type CacheFleet, openFleet, soonMs, untilReady, untilUp } from '../../support/cache-fleet.ts'
import { type TestPostgres, testPostgres, withTempDir } from '../../support/postgres.ts'
import { until } from '../../support/process.ts'
import { loneNode, noRedis, patientRedis, testRedis } from '../../support/redis.ts'

let postgres: TestPostgres
before(async () => {
  postgres = await testPostgres()
})
after(() => postgres.stop())

async function withFleet(body: (fleet: CacheFleet) => Promise<void>): Promise<void> {
  const fleet = await openFleet(postgres)
  try {
    await body(fleet)
  } finally {
    await fleet.close()
  }
}

describe('what is made of an entry', { skip: noRedis }, () => {
  it('is made of a new one, where a node has yet to hear that the entry is none', () =>
    withFleet(async (fleet) => {
      const log = tableLog(fleet.database)
      let held: Promise<void> | undefined
      const slowLog: InvalidationLog = {
        ...log,
        async since(mark) {
          await held
          return log.since(mark)
        },
      }
      const [writer, reader, third] = [await fleet.node(), await fleet.node({ log: slowLog }), await fleet.node()]
      const [thing] = await fleet.things(1)
      assert.equal(await thing!.get(reader), 0)
      const { open: release, opened } = gate()
      await reader.core.look()
      held = opened
      await thing!.write(writer)
      const made = getPage(reader, [thing!])
      // It waits; had it not, it would be made by then.
      for (let turn = 0; turn < 100; turn += 1) await third.shared!.facts()
      release()
      held = undefined
      await made
      assert.deepEqual(await getPage(third, [thing!]), [1])
    }))
})

describe('a database with another history', { skip: noRedis }, () => {
  it('is told by its log: a mark of another timeline, or from beyond the end, is not whole', () =>
    withFleet(async ({ database }) => {
      const log = tableLog(database)
      const { mark } = await log.since(undefined)
      assert.equal((await log.since(mark)).isWhole, true)
      const [place, snapshot] = mark.split(' ')
      const [timeline, , low] = place!.split('/')
      assert.equal((await log.since(`${timeline}/FFFFFFFF/${low} ${snapshot}`)).isWhole, false)
      assert.equal((await log.since(`00000007/0/1 ${snapshot}`)).isWhole, false)
    }))

  it('makes entries useless in the memory and in the shared layer, also those of a process that starts later', () =>
    withFleet(async (fleet) => {
      const log = tableLog(fleet.database)
      const before = new Set<string>()
      let isRestored = false
      const restorable: InvalidationLog = {
        ...log,
        async since(mark) {
          const answer = await log.since(mark)
          if (!isRestored) before.add(answer.mark)
          return { ...answer, isWhole: mark === undefined || !(isRestored && before.has(mark)) }
        },
      }
      const node = await fleet.node({ log: restorable, sharedLog: restorable })
      const [thing, other] = await fleet.things(2)
      await thing!.write(node)
      await other!.write(node)
      assert.deepEqual([await thing!.get(node), await other!.get(node)], [1, 1])
      await until(() => node.shared!.up, 'the shared layer is used')
      isRestored = true
      await node.data.write((tx) => tx`update m.thing set version = 0`) // as a restore does, without a word to anybody
      await node.core.look()
      assert.equal(await thing!.get(node), 0)
      const late = await fleet.node({ log: restorable, sharedLog: restorable })
      await until(() => late.shared!.up, 'the late one uses the shared layer')
      assert.equal(await other!.get(late), 0)
    }))
})

describe('what the shared layer has lost', { skip: noRedis }, () => {
  it('while a node comes back to it, it comes back with old data: the node begins anew', () =>
    withFleet(async (fleet) => {
      const log = tableLog(fleet.database)
      let holding: { reached(): void; released: Promise<void> } | undefined
      const slowLog: InvalidationLog = {
        ...log,
        async since(mark) {
          const answer = await log.since(mark)
          if (mark !== undefined && holding) {
            holding.reached()
            await holding.released
          }
          return answer
        },
      }
      const writer = await fleet.node()
      const [thing] = await fleet.things(1)
      const proxy = await openProxy({ port: fleet.redis.port, host: '127.0.0.1' })
      const url = fleet.redis.url.replace(`:${fleet.redis.port}`, `:${proxy.port}`)
      const reader = await fleet.node({ url, sharedLog: slowLog, ...bare })
      assert.equal(await thing!.get(reader), 0)
      const admin = await patientRedis(fleet.redis.url)
      await admin.call('SAVE')
      await thing!.write(writer)
      await until(async () => (await thing!.get(reader)) === 1, 'the reader has heard of it')
      for (let n = 0; n < 2; n += 1) {
        const known = await admin.call('GET', '{test}:epoch')
        await until(async () => (await admin.call('GET', '{test}:epoch')) !== known, 'its mark has moved on')
      }
      const { open: reached, opened: isReached } = gate()
      const { open: release, opened: released } = gate()
      holding = { reached, released }
      proxy.cut()
      await isReached // it has entered the epoch, and there is no news
      await writer.core.close()
      await fleet.redis.kill()
      await fleet.redis.start()
      await untilReady(fleet)
      const back = await patientRedis(fleet.redis.url)
      await until(
        async () => String(await back.call('CLIENT', 'LIST')).split('name=rung').length > 3,
        'the node is connected',
      )
      holding = undefined
      release()
      await untilUp([reader])
      assert.equal(await thing!.get(reader), 1)
      admin.close()
      back.close()
      proxy.close()
    }))

  for (const kind of ['epoch', 'n', 't', 'e', 'l']) {
    it(`a key is dropped, to make room: ${kind}`, () =>
      withFleet(async (fleet) => {
        const nodes = [await fleet.node(bare), await fleet.node(bare)] as const
        const [slow, ...things] = await fleet.things(4)
        for (let n = 0; n < 20; n += 1) await nodes[0].cache.invalidate(['something-else'])
        for (const thing of things) assert.equal(await thing.get(nodes[0]), 0)
        const admin = await patientRedis(fleet.redis.url)
        const { open, opened } = gate()
        const { open: began, opened: hasRead } = gate()
        const loading = slow!.get(nodes[0], async (node) => {
          const value = await slow!.load(node)
          began()
          await opened
          return value
        })
        await hasRead
        const pattern = kind === 'epoch' ? '{test}:epoch' : kind === 'n' ? '{test}:*:n' : `{test}:*:${kind}:*`
        const keys = (await admin.call('KEYS', pattern)) as string[]
        assert.ok(keys.length > 0)
        await admin.call('DEL', ...keys)
        const all = [...things, slow!]
        for (const thing of all) await thing.write(nodes[0])
        await admin.call('DEL', ...keys)
        open()
        await loading
        for (const thing of all)
          for (const node of nodes) await eventually(async () => assert.equal(await thing.get(node), 1))
        await untilUp(nodes)
        for (const thing of all) for (const node of nodes) assert.equal(await thing.get(node), 1)
        admin.close()
      }))
  }

  it('a loss is told once, however often the return fails', () =>
    withFleet(async (fleet) => {
      const client = await patientRedis(fleet.redis.url)
      const layer = redisLayer(loneNode(client)[0])
      const told: string[] = []
      let entered = 0
      const shared = new SharedCache({
        layer: {
          ...layer,
          enter(entering) {
            entered += 1
            return layer.enter(entering)
          },
        },
        logs: [{ database: 'main', log: tableLog(fleet.database) }],
        changed: (state) => told.push(state),
      })
      await shared.start()
      await fleet.redis.kill()
      await until(() => entered >= 4, 'it has tried to return')
      await fleet.redis.start()
      await until(() => shared.up, 'it has returned')
      assert.deepEqual(told, ['up', 'down', 'up'])
      await shared.close()
    }))

  it('what was loaded between the look and the lease is looked at, not loaded again', async () => {
    const redis = await testRedis()
    const client = await patientRedis(redis.url)
    const layer = redisLayer(loneNode(client)[0])
    const { id: epoch } = await layer.enter({ renew: false, mark: '1:1:', markAgeMsMax: 60_000 })
    const open = (id: string, seen?: Buffer) => layer.open(epoch, 'key', ['tag'], { id, ms: 60_000 }, seen)
    assert.deepEqual(await open('first'), { number: 1, leased: true, changed: false })
    assert.deepEqual(await open('second'), { number: 1, leased: false, changed: false })
    const bytes = Buffer.alloc(40, 1)
    bytes.writeDoubleLE(1, 2)
    assert.equal(await layer.store(epoch, 'key', { bytes, number: 1, tags: ['tag'], ttlMs: 60_000 }, 'first'), true)
    assert.deepEqual(await open('second'), { number: 1, leased: false, changed: true })
    assert.deepEqual(await open('second', bytes), { number: 1, leased: true, changed: false })
    await layer.close()
    await redis.stop()
  })

  it('what belongs to an epoch that has ended goes by itself, and nothing of one that is in use', async () => {
    const redis = await testRedis()
    const client = await patientRedis(redis.url)
    const layer = redisLayer(loneNode(client)[0])
    const entering = { mark: '1:1:', markAgeMsMax: 60_000 }
    const lifeMs = (key: string) => client.call('PTTL', key) as Promise<number>
    const { id: epoch } = await layer.enter({ renew: false, ...entering })
    const counter = `{test}:${epoch}:n`
    await layer.open(epoch, 'key', ['tag'], { id: 'one', ms: 60_000 }, undefined)
    await layer.invalidate(epoch, ['tag', 'other'])
    await client.call('PEXPIRE', counter, 60_000)
    await layer.setMark(epoch, '2:2:')
    assert.ok((await lifeMs(counter)) > 60_000)
    await layer.enter({ renew: true, ...entering })
    const keys = (await client.call('KEYS', '*')) as string[]
    assert.ok(keys.includes(counter))
    for (const key of keys) assert.equal((await lifeMs(key)) > 0, key !== '{test}:epoch', key)
    await layer.close()
    await redis.stop()
  })

  it('two nodes use two engines for a while, as in a failover: what one was told, the other is told too', () =>
    withFleet(async (fleet) => {
      const second = await testRedis()
      const behind = await fleet.node(bare)
      const [thing] = await fleet.things(1)
      assert.equal(await thing!.get(behind), 0)
      // Its messages come from the new one already, its entries from the old one still.
      const split = await fleet.node({ signalsUrl: second.url, ...bare })
      const ahead = await fleet.node({ url: second.url })
      await behind.core.close()
      assert.equal(await thing!.get(split), 0)
      for (let version = 1; version <= 20; version += 1) {
        const who = session()
        await who(() => thing!.write(ahead))
        assert.equal(await who(() => thing!.get(split)), version)
      }
      await ahead.core.close()
      await second.stop()
    }))

  it('a load that began before the last invalidation is not waited for', () =>
    withFleet(async (fleet) => {
      const nodes = [await fleet.node(), await fleet.node()] as const
      const [thing] = await fleet.things(1)
      const { open, opened } = gate()
      const { open: began, opened: hasRead } = gate()
      const slow = thing!.get(nodes[0], async (node) => {
        const value = await thing!.load(node)
        began()
        await opened
        return value
      })
      await hasRead
      const who = session()
      await who(() => thing!.write(nodes[0]))
      const asked = performance.now()
      assert.equal(await who(() => thing!.get(nodes[1])), 1)
      assert.ok(performance.now() - asked < 1_000)
      open()
      await slow
    }))
})

describe('what a node does not hear', { skip: noRedis }, () => {
  it('every message is lost: sessions see their own, others see it soon', () =>
    withFleet(async (fleet) => {
      const nodes = [await fleet.node({ deaf: true }), await fleet.node({ deaf: true, ...bare })] as const
      const things = await fleet.things(3)
      for (let version = 1; version <= 5; version += 1) {
        for (const thing of things) {
          for (const node of nodes) await thing.get(node)
          const who = session()
          const writer = nodes[version % 2]!
          await who(() => thing.write(writer))
          const written = performance.now()
          for (const node of nodes) assert.equal(await who(() => thing.get(node)), version)
          for (const node of nodes) await until(async () => (await thing.get(node)) === version, 'others see it')
          assert.ok(performance.now() - written < soonMs)
        }
      }
    }))

  it('a stranger, with every message lost: the log is followed', () =>
    withFleet(async (fleet) => {
      const [writer, reader] = [await fleet.node({ deaf: true }), await fleet.node({ deaf: true })]
      const [early, late] = await fleet.things(2)
      for (let version = 1; version <= 3; version += 1) {
        for (const thing of [early, late]) await thing!.get(reader)
        const client = await connectOnce(fleet.connection)
        await client.query('begin')
        await client.query('update m.thing set version = version + 1 where name = $1', [early!.name])
        await client.query('insert into rung.invalidation (tags) values ($1)', [[`m/${early!.name}`]])
        await late!.write(writer) // its row has the higher number, and is there first
        await until(async () => (await late!.get(reader)) === version, 'the later row has been seen')
        await client.query('commit')
        await client.end()
        const written = performance.now()
        await until(async () => (await early!.get(reader)) === version, 'the earlier row has been seen')
        assert.ok(performance.now() - written < soonMs)
      }
    }))

  it('cut off from Postgres, a node gives nothing away that may be old, unless it cannot load', () =>
    withFleet((fleet) =>
      withTempDir(async (dir) => {
        const proxy = await openProxy(
          { path: path.join(fleet.connection.host!, `.s.PGSQL.${fleet.connection.port ?? 5432}`) },
          path.join(dir, '.s.PGSQL.5432'),
        )
        const writer = await fleet.node()
        const [thing] = await fleet.things(1)
        const reader = await fleet.node({ connection: { ...fleet.connection, host: dir, port: 5432 }, deaf: true })
        assert.equal(await thing!.get(reader), 0)
        proxy.set({ blackHole: true })
        await thing!.write(writer)
        // A load that does not need what is cut off: it must be asked once what is kept cannot be trusted.
        const elsewhere = () => thing!.load(writer)
        const written = performance.now()
        await until(async () => (await thing!.get(reader, elsewhere)) === 1, 'it no longer trusts what it has')
        assert.ok(performance.now() - written < soonMs)
        await thing!.write(writer)
        const failing = () => Promise.reject(new Error('cut off'))
        const instead = await thing!.get(reader, failing)
        assert.ok(instead >= 1)
        proxy.heal()
        await until(async () => (await thing!.get(reader)) === 2, 'it follows the log again')
        proxy.close()
      }),
    ))
})
