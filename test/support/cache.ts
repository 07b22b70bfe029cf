import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import type { ConnectionConfig } from '../../src/engines/postgres/client.ts'
import { openRedisNodes } from '../../src/engines/redis/nodes.ts'
import { checkHistory, createRecorder, type Recorder } from '../../src/history.ts'
import { seededRandom } from '../../src/kernel/random.ts'
import { runInScope, Scope } from '../../src/kernel/scope.ts'
import { type Cache, CacheCore, type Invalidating } from '../../src/primitives/cache/cache.ts'
import type { InvalidationLog } from '../../src/primitives/cache/contract.ts'
import type { EdgeCache } from '../../src/primitives/cache/edge.ts'
import { redisLayer } from '../../src/primitives/cache/redis.ts'
import { SharedCache } from '../../src/primitives/cache/shared.ts'
import { SpreadCache } from '../../src/primitives/cache/spread.ts'
import { tableLog } from '../../src/primitives/cache/table.ts'
import { runAlone } from '../../src/primitives/data/alone.ts'
import type { Database } from '../../src/primitives/data/contract.ts'
import { createData, type Data } from '../../src/primitives/data/data.ts'
import { type SqlTag, sql } from '../../src/primitives/data/sql.ts'
import { redisLine } from '../../src/primitives/signals/redis.ts'
import { type Signals, signalsOver } from '../../src/primitives/signals/signals.ts'
import { openSignals } from '../../src/runtime/wire.ts'
import { openSystemTables } from './data.ts'
import type { TestPostgres } from './postgres.ts'
import { until } from './process.ts'
import { testRedis } from './redis.ts'
import { testRedisCluster } from './redis-cluster.ts'

/** What one process has of the cache. */
export interface CacheNode {
  core: CacheCore
  cache: Cache
  data: Data<SqlTag & Invalidating>
  shared: SpreadCache | undefined
}

export interface NodeParts {
  database: Database
  log: InvalidationLog
  signals: Signals
  shared?: SpreadCache | undefined
  edge?: EdgeCache | undefined
  bytesMax?: number | undefined
}

export function openNode({ database, log, bytesMax = 10_000_000, ...parts }: NodeParts): CacheNode {
  const core = new CacheCore({
    ...parts,
    bytesMax,
    logs: [{ database: database.name, log }],
    inTransaction: () => root.inTransaction(),
    failed() {},
  })
  const root = createData<SqlTag & Invalidating>(database, {
    extend: (riding) => core.invalidatingIn(riding, database.name),
  })
  const data = root.forModule('m')
  const closeCore = core.close.bind(core)
  core.close = () => closeCore().then(() => parts.signals.close())
  return { core, data, cache: core.forModule('m', data.write), shared: parts.shared }
}

export interface CacheUnderTest {
  /** Two processes' worth of it, on one database with a table `m.thing (name text primary key, version int)`. */
  nodes: readonly [CacheNode, CacheNode]
  close(): Promise<void>
}

/** Two nodes on a database of their own. */
export async function openNodes(
  postgres: TestPostgres,
  open: (parts: { database: Database; connection: ConnectionConfig; log: InvalidationLog }) => Promise<CacheNode>,
  close: () => Promise<void> = async () => {},
): Promise<CacheUnderTest> {
  const { database, connection } = await openSystemTables(postgres)
  await createThings(database)
  const log = tableLog(database)
  const nodes = [await open({ database, connection, log }), await open({ database, connection, log })] as const
  return {
    nodes,
    async close() {
      for (const { core } of nodes) await core.close()
      await database.close()
      await close()
    },
  }
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

export interface RedisNodeParts extends Omit<NodeParts, 'signals' | 'shared'> {
  /** Of the one Redis, or of nodes of a cluster. */
  url: string | readonly string[]
  /** Over how many nodes of it keys are spread. By default over all that have a URL. */
  spread?: number
  /** Of the Redis that carries the signals, if it is another one. */
  signalsUrl?: string | undefined
  /** As the shared layer sees it. */
  sharedLog?: InvalidationLog
  /** All signals are lost, those that it sends and those that it should hear. */
  deaf?: boolean | undefined
}

/** With Redis as shared layer and for signals, as a process of the rung `10k` has it. */
export async function openRedisNode(parts: RedisNodeParts): Promise<CacheNode> {
  const { database, log, sharedLog = log, bytesMax, url, signalsUrl, deaf } = parts
  const urls = typeof url === 'string' ? [url] : url
  const nodes = await openRedisNodes({ urls, nodes: parts.spread ?? urls.length, app: 'test' })
  const carriers =
    signalsUrl === undefined ? nodes : await openRedisNodes({ urls: [signalsUrl], nodes: 1, app: 'test' })
  const logs = [{ database: database.name, log: sharedLog }]
  const shared = new SpreadCache(nodes.map((one) => new SharedCache({ layer: redisLayer(one), logs, changed() {} })))
  const signals = deaf
    ? silence
    : signalsOver(
        redisLine({ nodes: carriers, urls: signalsUrl === undefined ? urls : [signalsUrl], app: 'test' }, () => {}),
        () => {},
      )
  const close = async () => {
    await signals.close()
    for (const { client } of carriers) client.close()
  }
  const node = openNode({ database, log, bytesMax, shared, signals: { ...signals, close } })
  await node.core.open()
  return node
}

const silence: Signals = { send() {}, listen() {}, async close() {} }

/** Where things are kept. */
export async function createThings(database: Database): Promise<void> {
  await runAlone(database, sql`create schema m`)
  await runAlone(database, sql`create table m.thing (name text primary key, version int not null)`)
}

/** A row that changes, and what is cached of it. */
export interface Thing {
  name: string
  load(node: CacheNode): Promise<number>
  get(node: CacheNode, load?: (node: CacheNode) => Promise<number>): Promise<number>
  write(node: CacheNode, how?: { before?: Promise<void>; fails?: boolean }): Promise<number>
}

export async function openThing({ data }: CacheNode): Promise<Thing> {
  const name = randomUUID()
  await data.write((tx) => tx`insert into m.thing (name, version) values (${name}, 0)`)
  return thingNamed(name)
}

export function thingNamed(name: string): Thing {
  async function load({ data }: CacheNode): Promise<number> {
    const [found] = await data.read((sql) => sql<{ version: number }>`select version from m.thing where name = ${name}`)
    return found!.version
  }
  return {
    name,
    load,
    get: (node, read = load) => node.cache.get(name, { ttl: '1h', tags: [name] }, () => read(node)),
    write: ({ data }, how = {}) =>
      data.write(async (tx) => {
        const [changed] = await tx<{ version: number }>`
          update m.thing set version = version + 1 where name = ${name} returning version`
        tx.invalidate([name])
        if (how.fails) throw new Error('rolled back')
        await how.before
        return changed!.version
      }),
  }
}

/** Kept itself, made of what is kept of several things. */
export function getPage(node: CacheNode, things: readonly Thing[]): Promise<readonly number[]> {
  const key = `page:${things.map(({ name }) => name).join('+')}`
  return node.cache.get(key, { ttl: '1h', tags: 'inherit' }, () => Promise.all(things.map((thing) => thing.get(node))))
}

/** Three sessions that read and write on the nodes at the same time, with loads that take their time. All of it is recorded. */
export async function schedule(
  seed: number,
  things: readonly Thing[],
  nodes: readonly CacheNode[],
  recorder: Recorder,
): Promise<void> {
  const random = seededRandom(seed)
  const pick = <T>(list: readonly T[]): T => list[Math.floor(random() * list.length)]!
  const pause = async () => {
    for (let turns = Math.floor(random() * 4); turns > 0; turns -= 1) await new Promise(setImmediate)
  }
  async function actor(number: number): Promise<void> {
    const who = session()
    for (let step = 0; step < 4; step += 1) {
      const [one, node] = [pick(things), pick(nodes)]
      const kind = random()
      const begin = (kind: 'read' | 'write', thing: Thing, more: object) =>
        recorder.begin({ kind, session: `${seed}.${number}`, key: thing.name, ...more })
      // Each entry of a node is a cache of its own: others may be late.
      const beginRead = (thing: Thing, entry: string) =>
        begin('read', thing, { cached: true, node: `node ${nodes.indexOf(node)}, ${entry}` })
      if (kind < 0.4) {
        const writing = begin('write', one, {})
        writing.ok({ version: await who(() => one.write(node)) })
      } else if (kind < 0.6) {
        const reading = things.map((thing) => beginRead(thing, 'page'))
        const values = await who(() => getPage(node, things))
        for (const [at, read] of reading.entries()) read.ok({ version: values[at]! })
      } else {
        const load = async (from: CacheNode) => {
          await pause()
          const loaded = await one.load(from)
          await pause()
          return loaded
        }
        // Its tag is known only from the value, as most are; and some readers warm the cache.
        const late = () =>
          node.cache.get(`late:${one.name}`, { ttl: '1h', tags: () => [one.name] }, () => load(node)) as Promise<number>
        const get = kind < 0.8 ? () => one.get(node, load) : late
        const reading = beginRead(one, kind < 0.8 ? 'itself' : 'late')
        reading.ok({ version: await who(() => (random() < 0.3 ? node.core.fill(get) : get())) })
      }
      await pause()
    }
  }
  await Promise.all([actor(1), actor(2), actor(3)])
}

/**
 * Runs the schedules of these seeds one after another. At the end of each hundred the history keeps what is promised, and all nodes
 * have the truth.
 */
export async function runSchedules(nodes: CacheUnderTest['nodes'], seeds: { from: number; to: number }): Promise<void> {
  const things = await Promise.all(Array.from({ length: 4 }, () => openThing(nodes[0])))
  let recorder = createRecorder()
  for (let seed = seeds.from; seed <= seeds.to; seed += 1) {
    await schedule(seed, things, nodes, recorder)
    if (seed % 100 > 0 && seed < seeds.to) continue
    assertKept(recorder)
    recorder = createRecorder()
    for (const { get, load } of things) {
      const truth = await load(nodes[0])
      for (const node of nodes) await eventually(async () => assert.equal(await get(node), truth))
    }
  }
}

const promised = ['acknowledged-writes', 'read-your-writes', 'monotonic-reads', 'writes-follow-reads', 'no-stale-set']

export function assertKept(recorder: Recorder): void {
  const verdicts = checkHistory(recorder.operations()).filter(({ checker }) => promised.includes(checker))
  assert.deepEqual(
    verdicts.flatMap(({ anomalies }) => anomalies.map(({ text }) => text)),
    [],
  )
  assert.ok(verdicts.every(({ checker, checked }) => checked > 0 || checker === 'acknowledged-writes'))
}

/** Others are told, not waited for. */
export async function eventually(check: () => Promise<void>): Promise<void> {
  for (let attempt = 0; ; attempt += 1) {
    try {
      return await check()
    } catch (error) {
      if (attempt === 400) throw error
      await new Promise((resolve) => setTimeout(resolve, 5))
    }
  }
}

/** The combinations of adapters that the contract and the bench run on. */
export function memoryNodes(postgres: TestPostgres): Promise<CacheUnderTest> {
  return openNodes(postgres, async ({ database, connection, log }) =>
    openNode({ database, log, signals: await openSignals(database, async () => connection) }),
  )
}

export async function redisNodes(postgres: TestPostgres): Promise<CacheUnderTest> {
  const redis = await testRedis()
  return openNodes(
    postgres,
    ({ database, log }) => openRedisNode({ database, log, url: redis.url }),
    () => redis.stop(),
  )
}

/** With keys on all nodes of a cluster of three. Each cache knows one address, from which it finds the others. */
export async function clusterNodes(postgres: TestPostgres): Promise<CacheUnderTest> {
  const cluster = await testRedisCluster()
  return openNodes(
    postgres,
    async ({ database, log }) => {
      const node = await openRedisNode({ database, log, url: cluster.urls[1]!, spread: 3 })
      await until(() => node.shared!.up, 'the nodes that have the slots are found')
      return node
    },
    () => cluster.stop(),
  )
}
