import assert from 'node:assert/strict'
import { test } from 'node:test'
import { memoryPositions, unknownPositions } from '../../src/primitives/positions/memory.ts'
import { redisPositions } from '../../src/primitives/positions/redis.ts'
import { loneNode, patientRedis, testRedis } from '../support/redis.ts'
import { openCluster, testRedisCluster } from '../support/redis-cluster.ts'
import { positionsContract } from './positions.ts'

positionsContract('memory', async () => {
  const records = memoryPositions()
  return { one: records, other: records, async close() {} }
})

positionsContract('redis', async () => {
  const redis = await testRedis()
  const clients = await Promise.all([patientRedis(redis.url), patientRedis(redis.url)])
  const [one, other] = clients.map((client) => redisPositions(loneNode(client)))
  return {
    one: one!,
    other: other!,
    async close() {
      for (const client of clients) client.close()
      await redis.stop()
    },
  }
})

positionsContract('redis in a cluster of three', async () => {
  const cluster = await testRedisCluster()
  const clients = [await openCluster(cluster), await openCluster(cluster)]
  const [one, other] = clients.map(redisPositions)
  return {
    one: one!,
    other: other!,
    async close() {
      for (const { client } of clients.flat()) client.close()
      await cluster.stop()
    },
  }
})

test('a record that cannot be reached says so, and not "nothing"', async () => {
  await assert.rejects(unknownPositions().find('anna'))
  const redis = await testRedis()
  const client = await patientRedis(redis.url)
  const records = redisPositions(loneNode(client))
  await redis.kill()
  await assert.rejects(records.find('anna'))
  client.close()
  await redis.stop()
})

test('of a cluster, only the node that is away says so', async () => {
  const cluster = await testRedisCluster()
  const nodes = await openCluster(cluster)
  const records = redisPositions(nodes)
  const owners = Array.from({ length: 30 }, (_, n) => `owner ${n}`)
  const position = new Map([['main', 7n]])
  for (const owner of owners) await records.put(owner, position)
  await cluster.nodes[2]!.kill()
  const found = await Promise.allSettled(owners.map((owner) => records.find(owner)))
  const known = found.filter((one) => one.status === 'fulfilled')
  assert.ok(known.length > 5 && known.length < 30, `${known.length}`)
  for (const { value } of known) assert.deepEqual(value, position)
  for (const { client } of nodes) client.close()
  await cluster.stop()
})
