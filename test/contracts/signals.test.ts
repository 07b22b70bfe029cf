import { openRedis } from '../../src/engines/redis/client.ts'
import type { RedisNodes } from '../../src/engines/redis/nodes.ts'
import { runAlone } from '../../src/primitives/data/alone.ts'
import { sql } from '../../src/primitives/data/sql.ts'
import { notifyLine } from '../../src/primitives/signals/notify.ts'
import { redisLine } from '../../src/primitives/signals/redis.ts'
import { openSystemTables } from '../support/data.ts'
import { testPostgres } from '../support/postgres.ts'
import { loneNode, testRedis } from '../support/redis.ts'
import { openCluster, testRedisCluster } from '../support/redis-cluster.ts'
import { signalsContract } from './signals.ts'

signalsContract('notify', async () => {
  const postgres = await testPostgres()
  const { database, connection } = await openSystemTables(postgres)
  return {
    open: async () =>
      notifyLine(
        database,
        async () => connection,
        () => {},
      ),
    async breakLines() {
      await runAlone(
        database,
        sql`select pg_terminate_backend(pid) from pg_stat_activity where query ilike 'listen%' and pid <> pg_backend_pid()`,
      )
    },
    async close() {
      await database.close()
      await postgres.stop()
    },
  }
})

signalsContract('redis', async () => {
  const redis = await testRedis()
  const clients: { close(): void }[] = []
  return {
    async open() {
      const client = await openRedis({ url: redis.url })
      clients.push(client)
      return redisLine({ nodes: loneNode(client), urls: [redis.url], app: 'test' }, () => {})
    },
    async breakLines() {
      const { call, close } = await openRedis({ url: redis.url })
      await call('CLIENT', 'KILL', 'TYPE', 'pubsub')
      close()
    },
    async close() {
      for (const client of clients) client.close()
      await redis.stop()
    },
  }
})

/** Each process listens at another node, and has another one to speak to. */
signalsContract('redis in a cluster of three', async () => {
  const cluster = await testRedisCluster()
  const clients: { close(): void }[] = []
  let opened = 0
  return {
    async open() {
      const turn = opened % 3
      opened += 1
      const [first, ...others] = await openCluster(cluster)
      const nodes = turn === 0 ? ([...others, first] as const) : ([first, ...others] as const)
      clients.push(...nodes.map(({ client }) => client))
      const urls = [...cluster.sockets.slice(turn), ...cluster.sockets.slice(0, turn)]
      return redisLine({ nodes: nodes as RedisNodes, urls, app: 'test' }, () => {})
    },
    async breakLines() {
      await Promise.all(cluster.nodes.map(({ tell }) => tell('CLIENT', 'KILL', 'TYPE', 'pubsub')))
    },
    async close() {
      for (const client of clients) client.close()
      await cluster.stop()
    },
  }
})
