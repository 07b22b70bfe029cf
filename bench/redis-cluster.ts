import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { setTimeout as wait } from 'node:timers/promises'
import { connectOnce } from '../src/engines/postgres/client.ts'
import { startEmbedded } from '../src/engines/postgres/embedded.ts'
import { openRedisNodes, type RedisNodes } from '../src/engines/redis/nodes.ts'
import { installedRedis } from '../src/engines/redis/server.ts'
import { seededRandom } from '../src/kernel/random.ts'
import { runInScope, Scope } from '../src/kernel/scope.ts'
import { migrate } from '../src/migrations/migrate.ts'
import type { Database } from '../src/primitives/data/contract.ts'
import type { Limiter } from '../src/primitives/limits/contract.ts'
import { redisLimiter } from '../src/primitives/limits/redis.ts'
import { spreadLimiter } from '../src/primitives/limits/spread.ts'
import { systemMigrations } from '../src/runtime/migrations.ts'
import { openDatabase } from '../src/runtime/wire.ts'
import { rung1k } from '../src/topology/rungs/1k.ts'
import { testRedis } from '../test/support/redis.ts'
import { type TestRedisCluster, testRedisCluster } from '../test/support/redis-cluster.ts'
import type { Bench } from './run.ts'
import { type CacheNode, openCacheNode } from './support/cache-nodes.ts'
import { measureOwnWrites, type OwnWrites } from './support/own-writes.ts'
import { inWords, machineFacts, progress, rounded, spread, table } from './support/report.ts'
import { stationary } from './support/traces.ts'

const things = 1_000
const users = 200
/** For one measurement. Each takes a unit of a limit and reads three values; every twentieth also writes. */
const requests = 8_000
const readsEach = 3
const writeShare = 0.05
const atOnce = 64
const pairs = 20_000
const betweenKillsMs = 1_000
const targets = { shareLeast: 0.25, shareMost: 0.42, failed: 0, stale: 0 }

/** What one process does, with one Redis and with three. */
interface Side {
  cache: CacheNode
  limiter: Limiter
  nodes: RedisNodes
}

type Sides = Readonly<Record<'one' | 'three', Side>>

interface Cost {
  requestsPerSecond: number[]
  cpuUsPerRequest: number[]
}

const bench: Bench = {
  claim: 'three nodes of Redis share the work evenly, and one that is killed again and again fails no request',
  async run({ json, rounds = 7 }) {
    const dir = await mkdtemp(path.join(tmpdir(), 'rung-bench-'))
    const server = await startEmbedded({ root: path.join(dir, 'data'), connectionsMax: 100 })
    const redis = await testRedis()
    const cluster = await testRedisCluster()
    const limits = { ...rung1k.data, readConnectionsMax: 10, writeConnectionsMax: 20 }
    const database = openDatabase(limits, server.connection)
    try {
      await migrate({ connection: server.connection, migrations: systemMigrations })
      const client = await connectOnce(server.connection)
      await client.query('create schema bench; create table bench.thing (id int primary key, version int not null)')
      await client.query(`insert into bench.thing select n, 0 from generate_series(0, ${things - 1}) n`)
      const { rows } = await client.query('show server_version')
      await client.end()
      const { host, user, database: name } = server.connection
      const databaseUrl = `postgres://${user}@/${name}?host=${encodeURIComponent(host!)}`
      const sides = {
        one: await openSide(database, [redis.url]),
        three: await openSide(database, cluster.sockets),
      }
      const { costs, shares } = await measure(sides, rounds)
      for (const { cache, nodes } of Object.values(sides)) {
        await cache.close()
        for (const { client } of nodes) client.close()
      }
      const places = { dir: path.join(dir, 'web'), databaseUrl, redisUrl: cluster.sockets.join(',') }
      const killed = await killWhile(cluster, () => measureOwnWrites(places, pairs))
      const result = { costs, shares, ...killed }
      if (!json) show(result)
      return {
        claim: bench.claim,
        facts: { ...machineFacts(rows[0].server_version), redis: installedRedis()!.version },
        targets,
        ...inFile(result),
      }
    } finally {
      await database.close()
      await cluster.stop()
      await redis.stop()
      await server.stop()
      await rm(dir, { recursive: true, force: true })
    }
  },
}
export default bench

interface Result {
  costs: Readonly<Record<keyof Sides, Cost>>
  /** Of the operations of all nodes, by round. */
  shares: number[][]
  kills: number
  visible: OwnWrites
}

/** Nothing stays in a memory of one byte: every read is one of Redis. */
async function openSide(database: Database, urls: readonly string[]): Promise<Side> {
  const nodes = await openRedisNodes({ urls, nodes: urls.length, app: 'bench', commandTimeoutMs: 5_000 })
  return { nodes, cache: await openCacheNode(database, urls, 1), limiter: spreadLimiter(nodes.map(redisLimiter)) }
}

async function measure(sides: Sides, rounds: number): Promise<Pick<Result, 'costs' | 'shares'>> {
  const costs = {
    one: { requestsPerSecond: [], cpuUsPerRequest: [] },
    three: { requestsPerSecond: [], cpuUsPerRequest: [] },
  } as Result['costs']
  const shares: number[][] = []
  for (let round = -1; round < rounds; round += 1) {
    for (const side of ['one', 'three'] as const) {
      const counted = await operationsOf(sides[side].nodes)
      const before = process.cpuUsage()
      const began = performance.now()
      await work(sides[side], round)
      const ms = performance.now() - began
      const { user, system } = process.cpuUsage(before)
      if (round < 0) continue // it warms up
      costs[side].requestsPerSecond.push((requests / ms) * 1_000)
      costs[side].cpuUsPerRequest.push((user + system) / requests)
      if (side === 'three') {
        const now = await operationsOf(sides[side].nodes)
        const done = now.map((count, at) => count - counted[at]!)
        const all = done.reduce((sum, count) => sum + count)
        shares.push(done.map((count) => count / all))
      }
    }
  }
  progress(`  shares: ${shares.map((of) => of.map((share) => share.toFixed(3)).join(' ')).join('; ')}`)
  return { costs, shares }
}

async function operationsOf(nodes: RedisNodes): Promise<number[]> {
  return Promise.all(nodes.map(async ({ client }) => Number((await client.info('stats')).total_commands_processed)))
}

async function work({ cache: { cache, data }, limiter }: Side, round: number): Promise<void> {
  const wanted = stationary(things, requests * readsEach, 0.99)
  const random = seededRandom(round + 2)
  const get = (id: number) =>
    cache.get(`thing:${id}`, { ttl: '1h', tags: [`thing:${id}`] }, async () => {
      const [row] = await data.read((sql) => sql<{ version: number }>`select version from bench.thing where id = ${id}`)
      return row!.version
    })
  const write = (id: number) =>
    data.write(async (tx) => {
      await tx`update bench.thing set version = version + 1 where id = ${id}`
      tx.invalidate([`thing:${id}`])
    })
  let next = 0
  async function ask(): Promise<void> {
    while (next < requests) {
      const at = next
      next += 1
      const user = Math.floor(random() * users)
      const isWrite = random() < writeShare
      await runInScope(new Scope('request', 'bench', 'bench'), async () => {
        await limiter.take([{ key: `user ${user}`, max: 1e9, windowMs: 60_000 }])
        for (let read = 0; read < readsEach; read += 1) await get(wanted[at * readsEach + read]!)
        if (isWrite) await write(wanted[at * readsEach]!)
      })
    }
  }
  await Promise.all(Array.from({ length: atOnce }, ask))
}

/** Kills one node after the other meanwhile. A request that fails fails the bench. */
async function killWhile(
  { nodes }: TestRedisCluster,
  run: () => Promise<OwnWrites>,
): Promise<Pick<Result, 'kills' | 'visible'>> {
  let isDone = false
  let kills = 0
  async function kill(): Promise<void> {
    while (!isDone) {
      await wait(betweenKillsMs)
      const node = nodes[kills % nodes.length]!
      await node.kill()
      kills += 1
      await node.start()
    }
  }
  const killing = kill()
  const visible = await run().finally(() => {
    isDone = true
  })
  await killing
  return { kills, visible }
}

const ratio = (ours: readonly number[], theirs: readonly number[]) => spread(ours.map((one, at) => one / theirs[at]!))
const shareOf = (shares: readonly number[][], node: number) => spread(shares.map((of) => of[node]!))

function inFile({ costs: { one, three }, shares, kills, visible }: Result): object {
  return {
    shares: shares[0]!.map((_, node) => rounded(shareOf(shares, node))),
    requestsPerSecond: { one: rounded(spread(one.requestsPerSecond)), three: rounded(spread(three.requestsPerSecond)) },
    cpuUsPerRequest: { one: rounded(spread(one.cpuUsPerRequest)), three: rounded(spread(three.cpuUsPerRequest)) },
    rateToOne: rounded(ratio(three.requestsPerSecond, one.requestsPerSecond)),
    cpuToOne: rounded(ratio(three.cpuUsPerRequest, one.cpuUsPerRequest)),
    whileNodesAreKilled: {
      ...{ kills, pairs: visible.pairs, failed: 0, stale: visible.stale },
      withoutCookies: visible.control,
      othersGoingBack: visible.back,
    },
  }
}

function show({ costs: { one, three }, shares, kills, visible }: Result): void {
  const rows: [string, string, string][] = [
    ...shares[0]!.map((_, node): [string, string, string] => [
      `share of node ${node + 1}`,
      inWords(shareOf(shares, node), 3),
      `${targets.shareLeast} to ${targets.shareMost}`,
    ]),
    ['requests a second, three to one', inWords(ratio(three.requestsPerSecond, one.requestsPerSecond)), ''],
    ['CPU of a request, three to one', inWords(ratio(three.cpuUsPerRequest, one.cpuUsPerRequest)), ''],
    [`failed of ${2 * visible.pairs} requests and more, ${kills} kills`, '0', `${targets.failed}`],
    [`stale in ${visible.pairs} own writes`, `${visible.stale}`, `${targets.stale}`],
    [`back in time, of ${visible.back.reads} reads`, `${visible.back.anomalies}`, `${targets.stale}`],
  ]
  process.stdout.write(`\n${table([['a cluster of three', 'measured', 'target'], ...rows])}\n`)
}
