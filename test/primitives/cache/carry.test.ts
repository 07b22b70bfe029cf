import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { existsSync } from 'node:fs'
import { cp, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { after, before, describe, it } from 'node:test'
import { fileURLToPath } from 'node:url'
import type { Clock } from '../../../src/kernel/clock.ts'
import { seededRandom } from '../../../src/kernel/random.ts'
import { leaveEntries, takeEntries } from '../../../src/primitives/cache/carry.ts'
import type { InvalidationLog } from '../../../src/primitives/cache/contract.ts'
import { tableLog } from '../../../src/primitives/cache/table.ts'
import { runAlone } from '../../../src/primitives/data/alone.ts'
import type { Database } from '../../../src/primitives/data/contract.ts'
import { sql } from '../../../src/primitives/data/sql.ts'
import { archived, backupDirOf, bases, done } from '../../support/backups.ts'
import { type CacheNode, createThings, gate, openNode, openThing, session, type Thing } from '../../support/cache.ts'
import { openSystemTables } from '../../support/data.ts'
import { type TestPostgres, testPostgres, withTempDir } from '../../support/postgres.ts'
import { type Scratch, sameExit, withScratch } from '../../support/process.ts'

const articles = fileURLToPath(new URL('../../support/apps/articles/app.ts', import.meta.url))

let postgres: TestPostgres
before(async () => {
  postgres = await testPostgres()
})
after(() => postgres.stop())

/** Processes without a shared layer, one after another, on one data directory; and one beside them. */
interface Place {
  file: string
  log: InvalidationLog
  database: Database
  /** Begins with what the last one left. Gives what it was told of that. */
  start(how?: Start): Promise<{ node: CacheNode; taken: number | string | undefined }>
  stop(node: CacheNode): Promise<number>
  /** As if killed. */
  kill(node: CacheNode): Promise<void>
  other: CacheNode
}

interface Start {
  log?: InvalidationLog
  app?: string
  clock?: Clock
  bytesMax?: number
}

const silence = { ring() {}, listen() {}, async close() {} }

async function withPlace(body: (place: Place) => Promise<void>): Promise<void> {
  await withTempDir(async (dir) => {
    const { database } = await openSystemTables(postgres)
    await createThings(database)
    const log = tableLog(database)
    const file = path.join(dir, 'cache', 'memory')
    const other = openNode({ database, log, bus: silence })
    const running = new Set<CacheNode>([other])
    const kill = async (node: CacheNode) => {
      running.delete(node)
      await node.core.close()
    }
    try {
      await body({
        file,
        log,
        database,
        other,
        kill,
        async start({ log: own = log, app = 'test', clock, bytesMax } = {}) {
          const node = openNode({ database, log: own, bus: silence, bytesMax })
          running.add(node)
          const taken = await takeEntries({ core: node.core, log: own, app, file, ...(clock && { clock }) })
          return { node, taken }
        },
        async stop(node) {
          const left = await leaveEntries({ core: node.core, log, app: 'test', file }, async () => {})
          await kill(node)
          return left
        },
      })
    } finally {
      for (const node of running) await node.core.close()
      await database.close()
    }
  })
}

const mustNotLoad = async () => {
  throw new Error('it was loaded')
}

describe('entries that one process leaves to the next', () => {
  it('are there without a load, each with all that it was', () =>
    withPlace(async ({ start, stop, file, other }) => {
      const { node: first, taken: nothing } = await start()
      assert.equal(nothing, undefined)
      const thing = await openThing(first)
      await thing.get(first)
      const long = 'ä€😀'.repeat(2_000)
      await first.cache.get('page', { ttl: '1h', grace: '1h', tags: () => ['p'] }, () => ({ long, list: [1, null] }))
      await first.cache.get('absent', { ttl: '1h', tags: [] }, () => undefined)
      await first.cache.get('brief', { ttl: 1 }, () => 1)
      while ((await first.cache.get('brief', { ttl: 1 }, () => 2)) === 1); // it is due
      const left = await stop(first)
      assert.ok(left >= 3)
      assert.equal((await stat(file)).mode & 0o777, 0o600)
      assert.deepEqual(await readdir(path.join(path.dirname(file), '.drafts')), [])

      const { node: second, taken } = await start()
      assert.equal(taken, left)
      assert.equal(existsSync(file), false, 'nobody takes it twice')
      assert.equal(await thing.get(second, mustNotLoad), 0)
      const page = await second.cache.get('page', { ttl: '1h', tags: () => ['p'] }, mustNotLoad as never)
      assert.deepEqual(page, { long, list: [1, null] })
      assert.ok(Object.isFrozen(page))
      assert.equal(await second.cache.get('absent', { ttl: '1h', tags: [] }, mustNotLoad), undefined)

      // From here on they are entries like others, also for the process after that.
      await thing.write(other)
      await second.core.look()
      assert.equal(await thing.get(second), 1)
      await stop(second)
      const { node: third } = await start()
      assert.equal(await thing.get(third, mustNotLoad), 1)
      await other.cache.invalidate(['p'])
      await third.core.look()
      assert.equal(await third.cache.get('page', { ttl: '1h', tags: ['p'] }, () => 'new'), 'new')
    }))

  it('are gone where somebody has changed them meanwhile, also in a transaction that began before', () =>
    withPlace(async ({ start, stop, other }) => {
      const { node } = await start()
      const things = [await openThing(node), await openThing(node), await openThing(node), await openThing(node)]
      for (const thing of things) await thing.get(node)
      const [early, own, between, kept] = things as [Thing, Thing, Thing, Thing]
      const { open, opened } = gate()
      const { open: begun, opened: hasBegun } = gate()
      const late = other.data.write(async (tx) => {
        await tx`update m.thing set version = 1 where name = ${early.name}`
        tx.invalidate([early.name])
        begun()
        await opened
      })
      await hasBegun
      await own.write(node)
      await stop(node)
      open()
      await late
      await between.write(other)
      const { node: next, taken } = await start()
      assert.equal(taken, 1)
      assert.equal(await kept.get(next, mustNotLoad), 0)
      for (const thing of [early, own, between]) assert.equal(await thing.get(next), 1)
    }))

  it('are not for who has written since they were loaded', () =>
    withPlace(async ({ start, stop, other }) => {
      const { node } = await start()
      const reader = session()
      const thing = await openThing(node)
      const untagged = (at: CacheNode) => at.cache.get(`u:${thing.name}`, { ttl: '1h' }, () => thing.load(at))
      await reader(() => untagged(node))
      await thing.get(node)
      await stop(node)
      const writer = session()
      await writer(() => thing.write(other))
      const { node: next } = await start()
      assert.equal(await untagged(next), 0)
      assert.equal(await writer(() => untagged(next)), 1)
      assert.equal(await writer(() => thing.get(next)), 1)
      const late = session()
      await late(() => thing.write(other))
      assert.equal(await late(() => thing.get(next)), 2)
    }))

  it('are never older than the truth, whatever is written at whatever time', () =>
    withPlace(async ({ start, stop, other }) => {
      const random = seededRandom(7)
      const pick = <T>(list: readonly T[]): T => list[Math.floor(random() * list.length)]!
      let { node } = await start()
      const things = await Promise.all(Array.from({ length: 8 }, () => openThing(node)))
      let carried = 0
      for (let round = 0; round < 40; round += 1) {
        const { open, opened } = gate()
        const works: Promise<unknown>[] = []
        for (let step = 0; step < 6; step += 1) {
          const thing = pick(things)
          const kind = random()
          if (kind < 0.5) works.push(thing.get(node))
          else works.push(thing.write(kind < 0.75 ? node : other))
        }
        await Promise.all(works)
        // One that is still open when the process stops.
        const held = pick(things)
        const late = held.write(other, { before: opened })
        await pick(things).get(node)
        const during = Promise.all(things.map((one) => random() < 0.3 && one !== held && one.write(other)))
        await stop(node)
        await during
        if (random() < 0.5) await pick(things.filter((one) => one !== held)).write(other)
        open()
        await late
        const started = await start()
        node = started.node
        if (typeof started.taken === 'number') carried += started.taken
        await node.core.look()
        for (const thing of things) assert.equal(await thing.get(node), await thing.load(node), `round ${round}`)
      }
      assert.ok(carried > 40, `${carried} entries were carried: this shows nothing`)
    }))

  it('are those that are used most, as many as fit', () =>
    withPlace(async ({ start, stop, file }) => {
      const { node } = await start({ bytesMax: 200_000_000 })
      const text = randomBytes(75_000).toString('base64')
      const ask = (n: number, load: () => unknown = () => `${n}${text}`) =>
        node.cache.get(`k:${n}`, { ttl: '1h', tags: [] }, load)
      for (let n = 0; n < 400; n += 1) await ask(n)
      for (let use = 0; use < 5; use += 1) for (let n = 200; n < 210; n += 1) await ask(n)
      const left = await stop(node)
      assert.ok(left > 150 && left < 400, `${left}`)
      assert.ok((await stat(file)).size <= 17 * 1024 ** 2)
      const { node: next } = await start()
      for (let n = 200; n < 210; n += 1)
        assert.equal(
          String(await next.cache.get(`k:${n}`, { ttl: '1h', tags: [] }, mustNotLoad)).length,
          text.length + 3,
        )
    }))
})

interface At {
  url: string
}

async function change({ url }: At, title: string): Promise<void> {
  const [method, headers] = ['PUT', { 'content-type': 'application/json' }]
  const { status } = await fetch(`${url}/articles/a`, { method, headers, body: JSON.stringify({ title }) })
  assert.equal(status, 200)
}

/** By way of an entry, and as a kept answer. */
async function read({ url }: At): Promise<[string, string]> {
  const [{ title }] = (await (await fetch(`${url}/titles`)).json()) as [{ title: string }]
  return [((await (await fetch(`${url}/articles/a`)).json()) as { title: string }).title, title]
}

/** Past everything that tells of it: so an old title can only come from a cache. */
async function changeUnheard(scratch: Scratch): Promise<void> {
  const admin = await scratch.connect()
  await admin.query(`update articles.article set title = 'unheard of'`)
  await admin.end()
}

describe('a process that starts again', () => {
  it('begins with what the last one knew, unless that was killed', () =>
    withScratch(async (scratch) => {
      const options = { app: articles, env: { LOG_LEVEL: 'debug' } }
      const began = /the cache begins with \d+ entries of the last process/

      const first = await scratch.start(options)
      await change(first, 'first')
      await read(first)
      await read(first) // tags that are known only from the value are kept by now
      await changeUnheard(scratch)
      sameExit(await first.stop(), 0)

      const second = await scratch.start(options)
      assert.deepEqual(await read(second), ['first', 'first'])
      await change(second, 'second')
      assert.deepEqual(await read(second), ['second', 'second'])
      sameExit(await second.stop(), 0)
      assert.match(second.stdout(), began)

      const third = await scratch.start(options)
      assert.deepEqual(await read(third), ['second', 'second'])
      await third.kill()

      const fourth = await scratch.start(options)
      await read(fourth)
      sameExit(await fourth.stop(), 0)
      assert.doesNotMatch(fourth.stdout(), /the cache begins/)

      const inDevelopment = await scratch.start({ ...options, env: { ...options.env, NODE_ENV: 'development' } })
      sameExit(await inDevelopment.stop(), 0)
      assert.doesNotMatch(inDevelopment.stdout(), /the cache begins/)
    }))
})

describe('a process that starts on a restored database, with the file of the one before', () => {
  it('begins with it only where nothing of its time was undone', () =>
    withScratch(async (scratch) => {
      const options = { app: articles, env: { LOG_LEVEL: 'debug', RUNG_BACKUP_DIR: backupDirOf(scratch) } }
      const first = await scratch.start(options)
      await bases(scratch, 1)
      await change(first, 'first')
      const time = new Date(await archived(scratch)).toISOString()
      await change(first, 'second')
      await read(first)
      await read(first) // tags that are known only from the value are kept by now
      await changeUnheard(scratch)
      sameExit(await first.stop(), 0)
      const left = path.join(scratch.dir, 'left')
      await rename(path.join(scratch.dataDir, 'cache'), left)

      const [all, earlier] = [path.join(scratch.dir, 'all'), path.join(scratch.dir, 'earlier')]
      const put = (dataDir: string) => cp(left, path.join(dataDir, 'cache'), { recursive: true })
      const start = (dataDir: string) => scratch.start({ app: articles, env: { LOG_LEVEL: 'debug' }, dataDir })
      await done(scratch, ['restore', '--to', time, '--into', earlier])
      await done(scratch, ['restore', '--to', 'latest', '--into', all])

      // All that the file was made from is there: else what follows would show nothing.
      await put(all)
      const whole = await start(all)
      assert.deepEqual(await read(whole), ['second', 'second'])
      sameExit(await whole.stop(), 0)
      assert.match(whole.stdout(), /the cache begins with \d+ entries of the last process/)

      const refused = /the cache begins empty; .* the log of the database does not have what came since/
      await put(earlier)
      let back = await start(earlier)
      assert.deepEqual(await read(back), ['first', 'first'])
      // From here on the log grows past the place where the file was made.
      for (let n = 0; n < 20; n += 1) await change(back, `other ${n}`)
      sameExit(await back.stop(), 0)
      assert.match(back.stdout(), refused)

      await rm(path.join(earlier, 'cache'), { recursive: true })
      await put(earlier)
      back = await start(earlier)
      assert.deepEqual(await read(back), ['other 19', 'other 19'])
      sameExit(await back.stop(), 0)
      assert.match(back.stdout(), refused)
    }))
})

describe('a file that must not be believed', () => {
  /** One thing is kept and left behind, then `change` happens. */
  async function refused(change: (place: Place) => Promise<Start | undefined>, why: RegExp): Promise<void> {
    await withPlace(async (place) => {
      const { node } = await place.start()
      const thing = await openThing(node)
      await thing.get(node)
      assert.equal(await place.stop(node), 1)
      const { node: next, taken } = await place.start((await change(place)) ?? {})
      assert.match(String(taken), why)
      assert.equal(existsSync(place.file), false)
      assert.equal(next.core.size.entries, 0)
      await thing.get(next)
    })
  }

  it('is one of a process that was killed: there is none', () =>
    withPlace(async ({ start, stop, kill }) => {
      const { node } = await start()
      const thing = await openThing(node)
      await thing.get(node)
      await stop(node)
      const { node: killed } = await start()
      await kill(killed)
      assert.equal((await start()).taken, undefined)
    }))

  it('is torn, or changed anywhere', async () => {
    const spoiled = (spoil: (bytes: Buffer) => Buffer) =>
      refused(async ({ file }) => {
        await writeFile(file, spoil(await readFile(file)))
        return undefined
      }, /damaged, or of another version/)
    const flipped = (bytes: Buffer, at: number) => {
      bytes[at]! ^= 1
      return bytes
    }
    await spoiled(() => Buffer.alloc(0))
    await spoiled((bytes) => bytes.subarray(0, 10))
    await spoiled((bytes) => bytes.subarray(0, bytes.length / 2))
    await spoiled((bytes) => bytes.subarray(0, -1))
    await spoiled((bytes) => flipped(bytes, 11)) // the version
    await spoiled((bytes) => flipped(bytes, 14))
    await spoiled((bytes) => flipped(bytes, 40))
    await spoiled((bytes) => flipped(bytes, bytes.length - 40))
    await spoiled((bytes) => flipped(bytes, bytes.length - 1))
    await spoiled((bytes) => Buffer.concat([bytes, Buffer.from('x')]))
  })

  it('is of another app, another time, another cluster, another database', async () => {
    await refused(async () => ({ app: 'another' }), /of another app/)
    const shifted = (ms: number): Clock => ({ now: () => Date.now() + ms, ticks: () => performance.now() })
    await refused(async () => ({ clock: shifted(601_000) }), /too old/)
    await refused(async () => ({ clock: shifted(-60_000) }), /too old/)
    await refused(async ({ log }) => ({ log: { ...log, origin: async () => 'another' } }), /of another database/)
    const { database } = await openSystemTables(postgres)
    await refused(async () => ({ log: tableLog(database) }), /of another database/)
    await database.close()
  })

  it('is older than what the log still has, or of a time that a restore has undone', async () => {
    await refused(async ({ log, other }) => {
      // Who changes something and what tells of it: both are gone.
      await (await openThing(other)).write(other)
      await log.trim(-60_000)
      return undefined
    }, /does not have what came since/)
    // The same rows as at the stop, but for those that came last: the seal was one of them.
    await refused(async ({ database }) => {
      await runAlone(database, sql`delete from rung.invalidation where id = (select max(id) from rung.invalidation)`)
      return undefined
    }, /does not have what came since/)
  })
})
