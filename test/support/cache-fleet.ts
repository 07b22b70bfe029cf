import assert from 'node:assert/strict'
import { setTimeout as wait } from 'node:timers/promises'
import type { ConnectionConfig } from '../../src/engines/postgres/client.ts'
import { redisFacts } from '../../src/engines/redis/client.ts'
import { tableLog } from '../../src/primitives/cache/table.ts'
import type { Database } from '../../src/primitives/data/contract.ts'
import { type CacheNode, createThings, openRedisNode, openThing, type RedisNodeParts, type Thing } from './cache.ts'
import { openPostgres, openSystemTables } from './data.ts'
import type { TestPostgres } from './postgres.ts'
import { until } from './process.ts'
import { type TestRedis, testRedis } from './redis.ts'
import { type TestRedisCluster, testRedisCluster } from './redis-cluster.ts'

/** Nodes on one database and one Redis, or a cluster of it, both for this fleet alone. */
export interface CacheFleet<Redis = TestRedis> {
  redis: Redis
  database: Database
  connection: ConnectionConfig
  node(parts?: Partial<RedisNodeParts> & { connection?: ConnectionConfig }): Promise<CacheNode>
  things(count: number): Promise<Thing[]>
  close(): Promise<void>
}

/** Nothing stays in a memory of one byte: such a node asks Redis each time. */
export const bare = { bytesMax: 1 }

/** Others see a write within 1 s; and half as much for a machine that is busy with other tests. */
export const soonMs = 1_500

export async function openFleet(postgres: TestPostgres): Promise<CacheFleet> {
  const redis = await testRedis()
  return fleetOn(postgres, redis, redis.url, [redis])
}

/** Keys are spread over all nodes of the cluster. */
export async function openClusterFleet(postgres: TestPostgres): Promise<CacheFleet<TestRedisCluster>> {
  const redis = await testRedisCluster()
  return fleetOn(postgres, redis, redis.sockets, redis.nodes)
}

async function fleetOn<Redis extends { stop(): Promise<void> }>(
  postgres: TestPostgres,
  redis: Redis,
  url: RedisNodeParts['url'],
  servers: readonly Pick<TestRedis, 'server' | 'goOn'>[],
): Promise<CacheFleet<Redis>> {
  const { database, connection } = await openSystemTables(postgres)
  await createThings(database)
  const nodes: CacheNode[] = []
  const databases = [database]
  async function node(parts: Partial<RedisNodeParts> & { connection?: ConnectionConfig } = {}): Promise<CacheNode> {
    const own = parts.connection && (await openPostgres(postgres, { connection: parts.connection }))
    if (own) databases.push(own)
    const used = own ?? database
    const opened = await openRedisNode({ database: used, log: tableLog(used), url, ...parts })
    nodes.push(opened)
    return opened
  }
  return {
    redis,
    database,
    connection,
    node,
    async things(count) {
      const first = nodes[0] ?? (await node())
      return Promise.all(Array.from({ length: count }, () => openThing(first)))
    },
    async close() {
      for (const { server, goOn } of servers) if (server.isAlive()) goOn()
      for (const { core } of nodes) await core.close()
      for (const one of databases) await one.close()
      await redis.stop()
    },
  }
}

export async function untilUp(nodes: readonly CacheNode[]): Promise<void> {
  await until(() => nodes.every(({ shared }) => shared!.up), 'all nodes use the shared layer again')
}

/** Until it no longer loads its file. */
export async function untilReady({ redis }: CacheFleet): Promise<void> {
  await until(() => redisFacts(redis.url, 500).then(Boolean, () => false), 'Redis answers')
}

/**
 * Reads everything on every node, again and again, as sessions that have written nothing, until `stop`: no read fails, and none
 * sees what had been replaced `soonMs` before it began.
 */
export function watchThings(
  things: readonly Thing[],
  nodes: readonly CacheNode[],
): { wrote(thing: Thing, version: number): void; stop(): Promise<number> } {
  const replaced = new Map(things.map((thing) => [thing, [] as { version: number; at: number }[]]))
  const troubles: unknown[] = []
  let reads = 0
  let stopped = false
  async function watch(thing: Thing, node: CacheNode): Promise<void> {
    while (!stopped) {
      const began = performance.now()
      const least = Math.max(
        0,
        ...replaced
          .get(thing)!
          .filter(({ at }) => at < began - soonMs)
          .map(({ version }) => version),
      )
      try {
        const value = await thing.get(node)
        reads += 1
        if (value < least) troubles.push(new Error(`saw ${value}, ${soonMs} ms after ${least} was written`))
      } catch (error) {
        troubles.push(error)
      }
      await wait(5)
    }
  }
  const watching = things.flatMap((thing) => nodes.map((node) => watch(thing, node)))
  return {
    wrote: (thing, version) => void replaced.get(thing)!.push({ version, at: performance.now() }),
    async stop() {
      stopped = true
      await Promise.all(watching)
      assert.deepEqual(troubles, [])
      return reads
    },
  }
}
