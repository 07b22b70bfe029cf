import { openRedis } from '../../src/engines/redis/client.ts'
import { runInScope, Scope } from '../../src/kernel/scope.ts'
import { type Cache, CacheCore, type Invalidating } from '../../src/primitives/cache/cache.ts'
import type { Bus, InvalidationLog } from '../../src/primitives/cache/contract.ts'
import { redisLayer } from '../../src/primitives/cache/redis.ts'
import { redisBus } from '../../src/primitives/cache/redis-bus.ts'
import { SharedCache } from '../../src/primitives/cache/shared.ts'
import type { Database } from '../../src/primitives/data/contract.ts'
import { createData, type Data } from '../../src/primitives/data/data.ts'
import type { SqlTag } from '../../src/primitives/data/sql.ts'

/** What one process has of the cache. */
export interface CacheNode {
  core: CacheCore
  cache: Cache
  data: Data<SqlTag & Invalidating>
}

export interface NodeParts {
  database: Database
  log: InvalidationLog
  bus: Bus
  shared?: SharedCache | undefined
  bytesMax?: number
}

export function openNode({ database, bytesMax = 10_000_000, ...parts }: NodeParts): CacheNode {
  const core = new CacheCore({
    ...parts,
    bytesMax,
    database: database.name,
    inTransaction: () => root.inTransaction(),
    failed() {},
  })
  const root = createData<SqlTag & Invalidating>(database, { extend: (riding) => core.invalidatingIn(riding) })
  const data = root.forModule('m')
  return { core, data, cache: core.forModule('m', data.write) }
}

/** As one session: what it has seen and written goes with it from one request to the next, on whichever node. */
export function session(): <T>(fn: () => Promise<T>) => Promise<T> {
  let position: Scope['position'] | undefined
  return async (fn) => {
    const scope = new Scope('request', 'test', 'test')
    if (position) scope.position = position
    try {
      return await runInScope(scope, fn)
    } finally {
      position = scope.position
    }
  }
}

/** A load that ends when it is told to. */
export function gate(): { open(): void; opened: Promise<void> } {
  const { promise, resolve } = Promise.withResolvers<void>()
  return { open: resolve, opened: promise }
}

/** With Redis as shared layer and bus, as a process of the rung `10k` has it. */
export async function openRedisNode({
  database,
  log,
  url,
}: Omit<NodeParts, 'bus'> & { url: string }): Promise<CacheNode> {
  const client = await openRedis({ url })
  const shared = new SharedCache({ layer: redisLayer(client, 'test'), log, changed() {} })
  const node = openNode({ database, log, shared, bus: redisBus({ client, url, app: 'test', failed() {} }) })
  await node.core.open()
  return node
}
