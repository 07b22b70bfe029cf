import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { mkdir, open, rm, stat, statfs } from 'node:fs/promises'
import path from 'node:path'
import { describe, it, type TestContext } from 'node:test'
import { entriesIn } from '../support/ledger.ts'
import { ended, isRunning, type RungProcess, type Scratch, sameExit, until, withScratch } from '../support/process.ts'

const mebibyte = 1024 ** 2
const pieces = ['reserve-1', 'reserve-2']

interface SmallDisk extends Scratch {
  /** Gives a file that fills the disk to the last byte, or with so many bytes; removing it frees them. */
  fill(bytes?: number): Promise<() => Promise<void>>
}

/** A data directory on a disk of its own, in memory. Only root may make one. */
async function onSmallDisk(t: TestContext, mebibytes: number, body: (disk: SmallDisk) => Promise<void>): Promise<void> {
  if (process.platform !== 'linux' || process.getuid?.() !== 0)
    return t.skip('only root on Linux can mount a small disk')
  let why = ''
  await withScratch(async (scratch) => {
    const disk = path.join(scratch.dir, 'disk')
    await mkdir(disk)
    const mounted = spawnSync('mount', ['-t', 'tmpfs', '-o', `size=${mebibytes}m`, 'none', disk], { encoding: 'utf8' })
    why = mounted.stderr
    if (mounted.status !== 0) return
    scratch.atEnd(() => {
      if (spawnSync('umount', [disk]).status !== 0) spawnSync('umount', ['--lazy', disk])
    })
    const dataDir = path.join(disk, 'data')
    await body({
      ...scratch,
      dataDir,
      start: (options) => scratch.start({ dataDir, ...options }),
      startFails: (options) => scratch.startFails({ dataDir, ...options }),
      connect: () => scratch.connect(dataDir),
      fill: (bytes) => fill(disk, bytes),
    })
  })
  if (why !== '') t.skip(`a small disk cannot be mounted here: ${why.trim()}`)
}

let files = 0

async function fill(disk: string, bytes = Number.POSITIVE_INFINITY): Promise<() => Promise<void>> {
  files += 1
  const file = path.join(disk, `ballast-${files}`)
  const handle = await open(file, 'w')
  let block = Buffer.alloc(mebibyte, 1)
  try {
    for (let left = bytes; left > 0; ) {
      try {
        left -= (await handle.write(block, 0, Math.min(block.length, left))).bytesWritten
      } catch (error) {
        assert.equal((error as NodeJS.ErrnoException).code, 'ENOSPC')
        if (block.length === 1) break
        block = block.subarray(0, Math.floor(block.length / 2))
      }
    }
  } finally {
    await handle.close()
  }
  return () => rm(file)
}

/** What was acknowledged, with its length. */
type Written = Map<string, number>

async function write({ url }: { url: string }, written: Written, bytes: number): Promise<string> {
  const id = `e${randomBytes(8).toString('hex')}`
  const answer = await fetch(`${url}/entries`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ id, body: randomBytes(bytes / 2).toString('hex') }),
  })
  const { code, detail } = (await answer.json()) as { code?: string; detail?: string }
  if (answer.status === 201) written.set(id, bytes)
  if (answer.status === 507) {
    assert.equal(code, 'DATA_DISK_FULL')
    assert.match(detail ?? '', /Reads go on; free space to write again\.$/)
  }
  // A row that finds no room on the disk is one thing, a server that takes no writes any more another.
  if (detail?.startsWith('The database takes no writes')) return 'refused'
  const outcome = code === undefined ? String(answer.status) : `${answer.status} ${code}`
  assert.match(outcome, /^(201|507 DATA_DISK_FULL|503 DATA_(UNAVAILABLE|POOL_TIMEOUT|OUTCOME_UNKNOWN))$/)
  return outcome
}

async function get(url: string): Promise<number> {
  const answer = await fetch(url)
  await answer.text()
  return answer.status
}

/** Writes are refused with the right words and reads are answered, also those of everything. */
async function refusesAndReads(app: RungProcess, written: Written): Promise<void> {
  await until(async () => {
    if ((await write(app, written, 400_000)) !== 'refused') return false
    return (await get(`${app.url}/entries`)) === 200
  }, 'writes are refused and reads answered')
  for (let n = 0; n < 20; n += 1) {
    assert.equal(await write(app, written, 20), 'refused')
    assert.equal(await get(`${app.url}/entries`), 200)
    assert.equal(await get(`${app.url}/readyz`), 200)
  }
  await nothingIsLost(app, written)
}

async function nothingIsLost(app: { url: string }, written: Written): Promise<void> {
  const there = new Map((await entriesIn(app)).map(({ id, length }) => [id, length]))
  for (const [id, length] of written) assert.equal(there.get(id), length, `${id} is lost`)
}

function accepts(app: RungProcess, written: Written): Promise<boolean> {
  return until(async () => (await write(app, written, 20)) === '201', 'writes are accepted again')
}

async function reserved({ dataDir }: SmallDisk): Promise<number> {
  const sizes = await Promise.all(
    pieces.map((name) =>
      stat(path.join(dataDir, name)).then(
        ({ size }) => size,
        () => 0,
      ),
    ),
  )
  return sizes.filter((size) => size === 20 * mebibyte).length
}

function hasReserve(disk: SmallDisk): Promise<boolean> {
  return until(async () => (await reserved(disk)) === pieces.length, 'the reserve is complete')
}

describe('a full disk', () => {
  it('refuses writes, answers reads, and recovers without a restart when space is freed', (t) =>
    onSmallDisk(t, 300, async (disk) => {
      const written: Written = new Map()
      const free = await disk.fill(100 * mebibyte)
      const app = await disk.start()
      await hasReserve(disk)
      await refusesAndReads(app, written)
      t.diagnostic(`${written.size} writes acknowledged before the disk was full`)
      assert.match(app.stdout(), /"event":"postgres-full".*writes are refused, reads continue\. Free space on it\./)
      await free()
      await accepts(app, written)
      assert.match(app.stdout(), /"event":"postgres-freed"/)
      await nothingIsLost(app, written)
      sameExit(await app.stop(), 0)
    }))

  it('filled by somebody else to the last byte, can be read through crashes and restarts', (t) =>
    onSmallDisk(t, 250, async (disk) => {
      const written: Written = new Map()
      let app = await disk.start()
      await hasReserve(disk)
      for (let n = 0; n < 20; n += 1) assert.equal(await write(app, written, 100_000), '201')
      const free = await disk.fill()
      await refusesAndReads(app, written)

      // On a full disk it may have ended by itself already, and been started again.
      if (isRunning(app.postgresPid)) process.kill(app.postgresPid, 'SIGKILL')
      await ended(app.postgresPid)
      await until(async () => (await get(`${app.url}/entries`)) === 200, 'it reads again')
      await refusesAndReads(app, written)

      await app.kill()
      app = await disk.start()
      await refusesAndReads(app, written)
      sameExit(await app.stop(), 0)

      app = await disk.start()
      await refusesAndReads(app, written)
      await free()
      await accepts(app, written)
      await hasReserve(disk)
      await nothingIsLost(app, written)
      sameExit(await app.stop(), 0)
    }))

  it('that stops the write-ahead log: Postgres panics, recovers on the reserve, and can be read', (t) =>
    onSmallDisk(t, 250, async (disk) => {
      const written: Written = new Map()
      const app = await disk.start()
      await hasReserve(disk)
      for (let n = 0; n < 20; n += 1) assert.equal(await write(app, written, 100_000), '201')
      const free = await disk.fill()
      const client = await disk.connect()
      const statements = [
        'begin read write; select pg_switch_wal(); commit',
        'begin read write; create table if not exists filler (x int); drop table filler; commit',
      ]
      const useLog = async () => {
        // Each round takes a new segment of the log, until a commit finds no room for one.
        for (let n = 0; ; n += 1) {
          await client.query(statements[n % 2]!).catch(async (error) => {
            if (error.code !== '53100') throw error
            await client.query('rollback')
          })
        }
      }
      await assert.rejects(useLog, /terminat|connection|EPIPE|ECONNRESET/i)
      await refusesAndReads(app, written)
      t.diagnostic(`${await reserved(disk)} of ${pieces.length} pieces of the reserve are left`)
      await free()
      await accepts(app, written)
      await hasReserve(disk)
      await nothingIsLost(app, written)
      sameExit(await app.stop(), 0)
    }))

  it('without a reserve answers 507 or 503 and nothing else, and recovers when space is freed', (t) =>
    onSmallDisk(t, 250, async (disk) => {
      const written: Written = new Map()
      const app = await disk.start()
      await hasReserve(disk)
      for (let n = 0; n < 20; n += 1) assert.equal(await write(app, written, 100_000), '201')
      for (const name of pieces) await rm(path.join(disk.dataDir, name))
      const free = await disk.fill()
      const { bavail } = await statfs(disk.dataDir)
      assert.equal(bavail, 0)
      for (let n = 0; n < 30; n += 1) {
        await write(app, written, 400_000)
        assert.ok([200, 503].includes(await get(`${app.url}/entries`)))
        assert.equal(await get(`${app.url}/healthz`), 200)
      }
      await free()
      await accepts(app, written)
      await hasReserve(disk)
      await nothingIsLost(app, written)
      sameExit(await app.stop(), 0)
    }))
})
