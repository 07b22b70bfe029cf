import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { type FaultProxy, openProxy } from '../../../src/chaos/proxy.ts'
import type { RedisClient } from '../../../src/engines/redis/client.ts'
import { type CacheNode, eventually, gate, session, type Thing } from '../../support/cache.ts'
import { bare, type CacheFleet, openFleet, untilReady, untilUp, watchThings } from '../../support/cache-fleet.ts'
import { type TestPostgres, testPostgres } from '../../support/postgres.ts'
import { until } from '../../support/process.ts'
import { noRedis, patientRedis, testRedis } from '../../support/redis.ts'

let postgres: TestPostgres
before(async () => {
  postgres = await testPostgres()
})
after(() => postgres.stop())

/** What happens to Redis, or to the way there. */
interface Trouble {
  name: string
  /** Once it holds the values that will be old. */
  prepare?(at: Scene): Promise<void>
  begin(at: Scene): Promise<void> | void
  end?(at: Scene): Promise<void> | void
  /** Redis is of no use meanwhile: the nodes must notice. */
  down?: boolean
}

interface Scene {
  fleet: CacheFleet
  /** Between the nodes and Redis. */
  proxy: FaultProxy
  admin: RedisClient
  later: (() => Promise<void>)[]
}

const configure = ({ admin }: Scene, ...settings: string[]) => admin.call('CONFIG', 'SET', ...settings)

const troubles: Trouble[] = [
  {
    name: 'is killed, and comes back empty',
    begin: ({ fleet }) => fleet.redis.kill(),
    end: ({ fleet }) => fleet.redis.start(),
    down: true,
  },
  {
    name: 'hangs, and goes on',
    begin: ({ fleet }) => fleet.redis.hang(),
    end: ({ fleet }) => fleet.redis.goOn(),
    down: true,
  },
  {
    name: 'is a black hole for a while',
    begin: ({ proxy }) => proxy.set({ blackHole: true }),
    end: ({ proxy }) => proxy.heal(),
    down: true,
  },
  {
    name: 'is slow',
    begin: ({ proxy }) => proxy.set({ latencyMs: 40 }),
    end: ({ proxy }) => proxy.set({}),
  },
  {
    name: 'is slower than anybody waits',
    begin: ({ proxy }) => proxy.set({ latencyMs: 400 }),
    end: ({ proxy }) => proxy.set({}),
    down: true,
  },
  { name: 'is flushed', begin: async ({ admin }) => void (await admin.call('FLUSHALL')) },
  {
    name: 'comes back with old data',
    prepare: async ({ admin }) => void (await admin.call('SAVE')),
    begin: ({ fleet }) => fleet.redis.kill(),
    async end({ fleet }) {
      await fleet.redis.start()
      await untilReady(fleet)
    },
    down: true,
  },
  {
    name: 'is lost at once after an invalidation, and comes back with old data before anybody has missed it',
    prepare: async ({ admin }) => void (await admin.call('SAVE')),
    async begin({ fleet }) {
      await fleet.redis.kill()
      await fleet.redis.start()
    },
  },
  {
    name: 'is lost, and a replica takes over that lacks the last invalidations',
    async prepare({ fleet, later, admin }) {
      const replica = await testRedis()
      const wire = await openProxy({ port: fleet.redis.port, host: '127.0.0.1' })
      const promoted = await patientRedis(replica.url)
      later.push(async () => {
        promoted.close()
        wire.close()
        await replica.stop()
      })
      await promoted.call('CONFIG', 'SET', 'masterauth', 'a password of the tests: @/#%')
      await admin.call('CONFIG', 'SET', 'repl-diskless-sync-delay', '0')
      await promoted.call('REPLICAOF', '127.0.0.1', wire.port)
      await until(async () => /master_link_status:up/.test(String(await promoted.call('INFO'))), 'the replica is there')
      assert.equal(await admin.call('WAIT', 1, 5_000), 1)
      wire.set({ blackHole: true }) // from here on it hears nothing
      takeOver = async ({ proxy }) => {
        await promoted.call('REPLICAOF', 'NO', 'ONE')
        proxy.target = { port: replica.port, host: '127.0.0.1' }
        proxy.cut()
      }
    },
    begin: ({ fleet }) => fleet.redis.kill(),
    end: (scene) => takeOver(scene),
    down: true,
  },
  {
    name: 'is full, and refuses to write',
    begin: (at) => configure(at, 'maxmemory', '1', 'maxmemory-policy', 'noeviction').then(() => {}),
    end: (at) => configure(at, 'maxmemory', '0').then(() => {}),
  },
  {
    name: 'is full, and drops what it likes',
    begin: (at) => configure(at, 'maxmemory', '1', 'maxmemory-policy', 'allkeys-lfu').then(() => {}),
    end: (at) => configure(at, 'maxmemory', '0').then(() => {}),
  },
]
let takeOver: (at: Scene) => Promise<void>

describe('Redis', { skip: noRedis }, () => {
  for (const trouble of troubles) {
    it(`${trouble.name}: no request fails, and nobody sees what is old`, async (context) => {
      const fleet = await openFleet(postgres)
      const proxy = await openProxy({ port: fleet.redis.port, host: '127.0.0.1' })
      const url = fleet.redis.url.replace(`:${fleet.redis.port}`, `:${proxy.port}`)
      const admin = await patientRedis(fleet.redis.url)
      const scene: Scene = { fleet, proxy, admin, later: [] }
      const warm = await fleet.node({ url })
      const cold = await fleet.node({ url, ...bare })
      const nodes = [warm, cold]
      try {
        const things = await fleet.things(6)
        for (const { get } of things) for (const node of nodes) assert.equal(await get(node), 0)
        assert.equal(
          cold.core.groups.all().reduce((sum, { sharedHits }) => sum + sharedHits, 0),
          things.length,
        )
        await trouble.prepare?.(scene)
        // Whatever old data it may come back with: its count of invalidations is then far behind.
        for (let n = 0; n < 30; n += 1) await warm.cache.invalidate(['something-else'])
        // Two loads that have read, and end later: one during the trouble, one after it.
        const [during, afterwards] = things.slice(-2) as [Thing, Thing]
        const [endsDuring, endsAfterwards] = [await slowLoad(during, cold), await slowLoad(afterwards, cold)]
        const watch = watchThings(things, nodes)

        async function writeAndRead(writer: CacheNode, written = things): Promise<void> {
          await Promise.all(
            written.map(async (thing) => {
              const who = session()
              const version = await who(() => thing.write(writer))
              watch.wrote(thing, version)
              for (const node of nodes) assert.equal(await who(() => thing.get(node)), version)
            }),
          )
        }

        await trouble.begin(scene)
        await writeAndRead(warm)
        await endsDuring()
        if (trouble.down) await until(() => nodes.every(({ shared }) => !shared!.up), 'the nodes do without')
        await writeAndRead(cold)
        await trouble.end?.(scene)
        await untilUp(nodes)
        await endsAfterwards()
        await writeAndRead(warm, things.slice(0, -1))
        const newcomer = await fleet.node({ url, ...bare })
        for (const thing of things) {
          const truth = await thing.load(warm)
          for (const node of [...nodes, newcomer])
            await eventually(async () => assert.equal(await thing.get(node), truth))
        }
        context.diagnostic(`${await watch.stop()} reads, none failed, none stale`)
      } finally {
        admin.close()
        await fleet.close()
        proxy.close()
        for (const step of scene.later) await step()
      }
    })
  }
})

/** A load that has read the row and not ended; what is asked for is let go of, so that it must be loaded. */
async function slowLoad(thing: Thing, node: CacheNode): Promise<() => Promise<void>> {
  const { open, opened } = gate()
  const { open: began, opened: hasRead } = gate()
  await thing.write(node)
  const slow = thing.get(node, async (from) => {
    const value = await thing.load(from)
    began()
    await opened
    return value
  })
  await hasRead
  return async () => {
    open()
    await slow
  }
}
