import { openRedisNodes } from '../../src/engines/redis/nodes.ts'
import { type Cache, CacheCore, type Invalidating } from '../../src/primitives/cache/cache.ts'
import { redisLayer } from '../../src/primitives/cache/redis.ts'
import { SharedCache } from '../../src/primitives/cache/shared.ts'
import { SpreadCache } from '../../src/primitives/cache/spread.ts'
import { tableLog } from '../../src/primitives/cache/table.ts'
import type { Database } from '../../src/primitives/data/contract.ts'
import { createData, type Data } from '../../src/primitives/data/data.ts'
import type { SqlTag } from '../../src/primitives/data/sql.ts'
import { redisLine } from '../../src/primitives/signals/redis.ts'
import { signalsOver } from '../../src/primitives/signals/signals.ts'

/** What one process of the rung `10k` has of the cache. */
export interface CacheNode {
  cache: Cache
  data: Data<SqlTag & Invalidating>
  close(): Promise<void>
}

/** @param urls of one Redis, or of the nodes of a cluster */
export async function openCacheNode(database: Database, urls: readonly string[], bytesMax: number): Promise<CacheNode> {
  const nodes = await openRedisNodes({ urls, nodes: urls.length, app: 'bench', commandTimeoutMs: 5_000 })
  const logs = [{ database: database.name, log: tableLog(database) }]
  const signals = signalsOver(
    redisLine({ nodes, urls, app: 'bench' }, () => {}),
    () => {},
  )
  const core = new CacheCore({
    logs,
    bytesMax,
    shared: new SpreadCache(nodes.map((one) => new SharedCache({ layer: redisLayer(one), logs, changed() {} }))),
    signals,
    inTransaction: () => root.inTransaction(),
    failed() {},
  })
  const root = createData<SqlTag & Invalidating>(database, {
    extend: (riding) => core.invalidatingIn(riding, database.name),
  })
  const data = root.forModule('bench')
  await core.open()
  return { data, cache: core.forModule('bench', data.write), close: () => core.close().then(() => signals.close()) }
}
