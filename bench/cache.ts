import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { createCache as createDeduped } from 'async-cache-dedupe'
import { BentoCache, bentostore } from 'bentocache'
import { memoryDriver } from 'bentocache/drivers/memory'
import { createCache } from 'cache-manager'
import { LRUCache } from 'lru-cache'
import { connectOnce } from '../src/engines/postgres/client.ts'
import { startEmbedded } from '../src/engines/postgres/embedded.ts'
import { openRedis } from '../src/engines/redis/client.ts'
import { startRedis } from '../src/engines/redis/server.ts'
import { seededRandom } from '../src/kernel/random.ts'
import { runInScope, Scope } from '../src/kernel/scope.ts'
import { migrate } from '../src/migrations/migrate.ts'
import type { Database } from '../src/primitives/data/contract.ts'
import { systemMigrations } from '../src/runtime/migrations.ts'
import { openDatabase } from '../src/runtime/wire.ts'
import { rung1k } from '../src/topology/rungs/1k.ts'
import type { Bench } from './run.ts'
import { type CacheNode, openCacheNode } from './support/cache-nodes.ts'
import { measureOwnWrites, type OwnWrites } from './support/own-writes.ts'
import { at99, inWords, machineFacts, progress, rounded, spread, table } from './support/report.ts'
import { stationary } from './support/traces.ts'

const resident = 1_000
const gets = 300_000
const redisGets = 40_000
const atOnce = 64
const pairs = 100_000
const sessions = 16
const traceKeys = 1_000
const traceLength = 60_000
const targets = {
  hitsPerCpuSecond: 1e6,
  toBentocache: 5,
  toIoredis: 0.9,
  stale: 0,
  seenMsP99: 250,
  savedOfSavable: 0.95,
}

const names = Array.from({ length: resident }, (_, n) => `article:${String(n).padStart(6, '0')}`)

/** Some 700 bytes of JSON. */
function articleOf(name: string) {
  return {
    slug: name,
    title: `On ${name}`,
    body: 'All that is worth knowing of it, and more. '.repeat(10),
    tags: ['one', 'two', 'three'],
    createdAt: '2026-01-01T00:00:00.000Z',
    favorites: 17,
    author: { username: 'somebody', bio: 'Writes.', image: null },
  }
}

const bench: Bench = {
  claim: 'a hit costs a fifth of what it costs in the best known cache, and nobody misses what he wrote',
  async run({ json, rounds = 7 }) {
    const dir = await mkdtemp(path.join(tmpdir(), 'rung-bench-'))
    const server = await startEmbedded({ root: path.join(dir, 'data'), connectionsMax: 100 })
    const redis = await startRedis({ dir, listen: { socketPath: path.join(dir, 'redis.sock') } })
    const database = openDatabase(
      { ...rung1k.data, readConnectionsMax: 10, writeConnectionsMax: 20 },
      server.connection,
    )
    try {
      await migrate({ connection: server.connection, migrations: systemMigrations })
      const client = await connectOnce(server.connection)
      await client.query('create schema bench; create table bench.thing (id int primary key, version int not null)')
      await client.query(`insert into bench.thing select n, 0 from generate_series(0, ${traceKeys - 1}) n`)
      const { rows } = await client.query('show server_version')
      await client.end()
      const { host, user, database: name } = server.connection
      const databaseUrl = `postgres://${user}@/${name}?host=${encodeURIComponent(host!)}`
      const places = { dir: path.join(dir, 'web'), databaseUrl, redisUrl: redis.url }
      const visible = await measureOwnWrites(places, pairs)
      const result = { ...(await measure(database, redis.url, rounds)), visible }
      if (!json) show(result)
      return {
        claim: bench.claim,
        facts: { ...machineFacts(rows[0].server_version), redis: redis.version },
        targets,
        ...inFile(result),
      }
    } finally {
      await database.close()
      await redis.stop()
      await server.stop()
      await rm(dir, { recursive: true, force: true })
    }
  },
}
export default bench

type Side = 'rung' | 'bentocache' | 'cache-manager' | 'async-cache-dedupe' | 'lru-cache alone'

interface Result {
  /** Millions of hits for each second of CPU. */
  memory: Record<Side, number[]>
  redis: Record<'ours' | 'raw', { hitsPerSecond: number[]; cpuUsPerHit: number[] }>
  visible: OwnWrites
  zipf: { reads: number; loads: number; needed: number }
}

async function measure(database: Database, url: string, rounds: number): Promise<Omit<Result, 'visible'>> {
  const nodes = [await openCacheNode(database, [url], 50e6), await openCacheNode(database, [url], 50e6)] as const
  const bare = await openCacheNode(database, [url], 1)
  try {
    // First: V8 would learn from the others that entries live long, which those of a node without memory never do.
    const redis = await redisHits(bare, url, rounds)
    const memory = await memoryHits(nodes[0], rounds)
    const zipf = await zipfTrace(nodes)
    return { memory, redis, zipf }
  } finally {
    for (const node of [...nodes, bare]) await node.close()
  }
}

/** All that is asked for is there; everybody is asked in the way that would load it. */
async function memoryHits({ cache }: CacheNode, rounds: number): Promise<Result['memory']> {
  const load = async (name: string) => articleOf(name)
  const bento = new BentoCache({
    default: 'memory',
    stores: { memory: bentostore().useL1Layer(memoryDriver({ maxItems: 2 * resident })) },
  })
  const manager = createCache({ ttl: 3_600_000 })
  const deduped = createDeduped({
    ttl: 3_600,
    storage: { type: 'memory', options: { size: 2 * resident } },
  }).define('article', load)
  const lru = new LRUCache<string, object>({ max: 2 * resident })
  for (const name of names) lru.set(name, articleOf(name))
  const trace = stationary(resident, gets, 0.99)
  const sides: Record<Side, (count: number) => Promise<void>> = {
    async rung(count) {
      for (let at = 0; at < count; at += 1) {
        const name = names[trace[at]!]!
        await cache.get(name, { ttl: '1h', tags: [name] }, () => load(name))
      }
    },
    async bentocache(count) {
      for (let at = 0; at < count; at += 1) {
        const name = names[trace[at]!]!
        await bento.getOrSet({ key: name, ttl: '1h', tags: [name], factory: () => load(name) })
      }
    },
    async 'cache-manager'(count) {
      for (let at = 0; at < count; at += 1) {
        const name = names[trace[at]!]!
        await manager.wrap(name, () => load(name))
      }
    },
    async 'async-cache-dedupe'(count) {
      for (let at = 0; at < count; at += 1) await deduped.article(names[trace[at]!]!)
    },
    async 'lru-cache alone'(count) {
      for (let at = 0; at < count; at += 1) await lru.get(names[trace[at]!]!)
    },
  }
  const measured = Object.fromEntries(Object.keys(sides).map((side) => [side, [] as number[]])) as Result['memory']
  for (let round = -2; round < rounds; round += 1) {
    for (const side of Object.keys(sides) as Side[]) {
      // As in a request; the slow ones need not be asked as often.
      const count = side === 'rung' || side === 'lru-cache alone' ? gets : gets / 6
      const before = process.cpuUsage()
      await runInScope(new Scope('request', 'bench', 'bench'), () => sides[side](count))
      const { user, system } = process.cpuUsage(before)
      if (round >= 0) measured[side].push(count / (user + system)) // those before load and warm up
    }
  }
  await bento.disconnectAll()
  progress(`  memory: ${Object.entries(measured).map(([side, of]) => `${side} ${spread(of).median.toFixed(2)}`)}`)
  return measured
}

/** Of the same values, in the same Redis. By the wall clock, in which one of them waits for Redis and the other does not; and the CPU of this process. */
async function redisHits({ cache }: CacheNode, url: string, rounds: number): Promise<Result['redis']> {
  const { native, close } = await openRedis({ url, commandTimeoutMs: 5_000 })
  const failing = () => Promise.reject(new Error('it was to be there'))
  for (const name of names) {
    await cache.get(`far:${name}`, { ttl: '1h', tags: [name] }, () => articleOf(name))
    await native.set(`raw:${name}`, JSON.stringify(articleOf(name)))
  }
  const sides = {
    ours: (name: string) => cache.get(`far:${name}`, { ttl: '1h', tags: [name] }, failing),
    raw: async (name: string) => JSON.parse((await native.get(`raw:${name}`))!) as unknown,
  }
  const measured: Result['redis'] = {
    ours: { hitsPerSecond: [], cpuUsPerHit: [] },
    raw: { hitsPerSecond: [], cpuUsPerHit: [] },
  }
  for (let round = -1; round < rounds; round += 1) {
    for (const side of ['ours', 'raw'] as const) {
      let next = 0
      const before = process.cpuUsage()
      const began = performance.now()
      await Promise.all(
        Array.from({ length: atOnce }, async () => {
          while (next < redisGets) {
            next += 1
            await sides[side](names[next % resident]!)
          }
        }),
      )
      const ms = performance.now() - began
      const { user, system } = process.cpuUsage(before)
      if (round < 0) continue // it warms up
      measured[side].hitsPerSecond.push((redisGets / ms) * 1000)
      measured[side].cpuUsPerHit.push((user + system) / redisGets)
    }
  }
  close()
  const median = (side: 'ours' | 'raw') => spread(measured[side].hitsPerSecond).median.toFixed(0)
  progress(`  redis: ours ${median('ours')}, raw ${median('raw')}`)
  return measured
}

const get = ({ cache, data }: CacheNode, id: number, loaded: () => void) =>
  cache.get(`thing:${id}`, { ttl: '1h', tags: [`thing:${id}`] }, async () => {
    loaded()
    const [row] = await data.read((sql) => sql<{ version: number }>`select version from bench.thing where id = ${id}`)
    return row!.version
  })

const write = async ({ data }: CacheNode, id: number): Promise<number> =>
  data.write(async (tx) => {
    const [row] = await tx<{
      version: number
    }>`update bench.thing set version = version + 1 where id = ${id} returning version`
    tx.invalidate([`thing:${id}`])
    return row!.version
  })

/** Nine reads for each write, of keys by the same law. A load is needed by the first read of a key after a write. */
async function zipfTrace(nodes: readonly [CacheNode, CacheNode]): Promise<Result['zipf']> {
  const trace = stationary(traceKeys, traceLength, 0.99)
  const random = seededRandom(7)
  const writes = Array.from(trace, () => random() < 0.1)
  const changed = new Set<number>()
  let [loads, reads, needed, next] = [0, 0, 0, 0]
  for (const node of nodes) for (let id = 0; id < traceKeys; id += 1) await get(node, id, () => {})
  await Promise.all(
    Array.from({ length: sessions }, async () => {
      while (next < trace.length) {
        const at = next
        next += 1
        const id = trace[at]!
        const node = nodes[at % 2]!
        await runInScope(new Scope('request', 'bench', 'bench'), async () => {
          if (writes[at]) {
            await write(node, id)
            changed.add(id)
          } else {
            reads += 1
            if (changed.delete(id)) needed += 1
            await get(node, id, () => {
              loads += 1
            })
          }
        })
      }
    }),
  )
  return { reads, loads, needed }
}

/** The first read after a write needs a load, whatever the cache: those are not counted against it. */
function savedOfSavable({ reads, loads, needed }: Result['zipf']): number {
  return (reads - loads) / (reads - needed)
}

const ratio = (ours: readonly number[], theirs: readonly number[]) => spread(ours.map((one, at) => one / theirs[at]!))

function inFile({ memory, redis, visible, zipf }: Result): object {
  const spreads = (of: Record<string, number[]>) =>
    Object.fromEntries(Object.entries(of).map(([name, values]) => [name, rounded(spread(values))]))
  const to3 = (value: number) => Number(value.toPrecision(3))
  return {
    millionHitsPerCpuSecond: spreads(memory),
    toBentocache: rounded(ratio(memory.rung, memory.bentocache)),
    redisHitsPerSecond: spreads({ ours: redis.ours.hitsPerSecond, raw: redis.raw.hitsPerSecond }),
    redisCpuUsPerHit: spreads({ ours: redis.ours.cpuUsPerHit, raw: redis.raw.cpuUsPerHit }),
    toIoredis: rounded(ratio(redis.ours.hitsPerSecond, redis.raw.hitsPerSecond)),
    toIoredisByCpu: rounded(ratio(redis.raw.cpuUsPerHit, redis.ours.cpuUsPerHit)),
    ownWrites: {
      nodes: 'two processes, asked over HTTP with cookies',
      pairs: visible.pairs,
      stale: visible.stale,
      pairsPerSecond: to3(visible.pairsPerSecond),
      withoutCookies: visible.control,
      othersGoingBack: visible.back,
      othersSamples: visible.othersMs.length,
      othersMsMedian: to3(visible.othersMs[visible.othersMs.length >> 1]!),
      othersMsP99: to3(at99(visible.othersMs)),
    },
    zipf: { ...zipf, savedShare: to3(1 - zipf.loads / zipf.reads), savedOfSavable: to3(savedOfSavable(zipf)) },
  }
}

function show({ memory, redis, visible, zipf }: Result): void {
  const of = (values: readonly number[], digits: number) => inWords(spread(values), digits)
  const percent = (part: number) => `${(100 * part).toFixed(1)} %`
  const share = (part: number) => percent(1 - part / zipf.reads)
  const sides = Object.entries(memory)
  const rows: [string, string, string][] = [
    ...sides.map(([side, values]): [string, string, string] => [
      `memory hits, ${side}, M`,
      of(values, 2),
      side === 'rung' ? '≥ 1' : '',
    ]),
    ['to bentocache', inWords(ratio(memory.rung, memory.bentocache), 1), `≥ ${targets.toBentocache}`],
    ['Redis hits, rung, a second', of(redis.ours.hitsPerSecond, 0), ''],
    ['Redis hits, ioredis and JSON.parse', of(redis.raw.hitsPerSecond, 0), ''],
    ['rung to ioredis', inWords(ratio(redis.ours.hitsPerSecond, redis.raw.hitsPerSecond)), `≥ ${targets.toIoredis}`],
    ['CPU of a Redis hit, rung, µs', of(redis.ours.cpuUsPerHit, 2), ''],
    ['CPU of a Redis hit, ioredis, µs', of(redis.raw.cpuUsPerHit, 2), ''],
    [`stale in ${visible.pairs} own writes, two processes`, `${visible.stale}`, `${targets.stale}`],
    [`… in ${visible.control.pairs} without cookies`, `${visible.control.stale}`, ''],
    [`back in time, of ${visible.back.reads} reads of others' writes`, `${visible.back.anomalies}`, `${targets.stale}`],
    ['others see a write after, ms, p99', at99(visible.othersMs).toFixed(1), `≤ ${targets.seenMsP99}`],
    ['database reads saved, 10 % writes', share(zipf.loads), ''],
    ['… of those that need not be', percent(savedOfSavable(zipf)), `≥ ${100 * targets.savedOfSavable} %`],
  ]
  process.stdout.write(`\n${table([['hits for a second of CPU', 'measured', 'target'], ...rows])}\n`)
}
