import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { open, readdir, readFile, rename, rm, stat, truncate, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { describe, it, type TestContext } from 'node:test'
import { zstdCompressSync, zstdDecompressSync } from 'node:zlib'
import { parseLsn } from '../../src/kernel/position.ts'
import {
  archived,
  backupDirOf,
  bases,
  catalogueOf,
  done,
  filesOf,
  launch,
  lostOnlyTheLast,
  onRestored,
  rung,
  startArchiving,
  startWriter,
} from '../support/backups.ts'
import { idsIn, write } from '../support/ledger.ts'
import { ended, postgresPidOf, type Scratch, sameExit, until, withScratch } from '../support/process.ts'

describe('a backup of a running app', () => {
  it('is restored to a time between two writes, with the first and without the second', (t) =>
    withScratch(async (scratch) => {
      const app = await startArchiving(scratch)
      const writer = startWriter(app.url, 'writer')
      await writer.more(20)
      await bases(scratch, 1)
      await write(app, 'first')
      const before = [...writer.acknowledged.keys()]
      const time = await archived(scratch)
      await write(app, 'second')
      await writer.more(20)
      await writer.stop()
      await archived(scratch)
      const metrics = await (await fetch(`${app.url}/metrics`)).text()
      assert.match(metrics, /backup_archived_timestamp_seconds [1-9]/)
      assert.match(metrics, /backup_base_timestamp_seconds [1-9]/)
      assert.match(metrics, /backup_failures_total 0/)

      const into = path.join(scratch.dir, 'restored')
      const restored = await done(scratch, ['restore', '--to', new Date(time).toISOString(), '--into', into])
      t.diagnostic(`restored in ${restored.durationMs} ms`)
      assert.ok(Date.parse(restored.lastTransactionAt) <= time)
      const secret = path.join(into, 'secret')
      assert.equal(await readFile(secret, 'utf8'), await readFile(path.join(scratch.dataDir, 'secret'), 'utf8'))
      assert.equal((await stat(secret)).mode & 0o777, 0o600)
      assert.equal(await app.stop().then(({ code }) => code), 0)
      await onRestored(scratch, into, async (other) => {
        const ids = new Set(await idsIn(other))
        assert.ok(ids.has('first'))
        assert.ok(!ids.has('second'))
        assert.deepEqual(
          before.filter((id) => !ids.has(id)),
          [],
        )
      })
    }))

  it('loses at most what was written last when the app and its Postgres are killed and their disk is gone', (t) =>
    withScratch(async (scratch) => {
      const app = await startArchiving(scratch)
      await bases(scratch, 1)
      const writers = ['a', 'b', 'c', 'd'].map((name) => startWriter(app.url, name))
      // Longer than the loss that is allowed: else there were nothing to lose.
      const began = performance.now()
      await until(() => performance.now() - began > 3_000, 'three seconds of writes')
      process.kill(app.postgresPid, 'SIGKILL')
      const killedAt = performance.now()
      await app.kill()
      await ended(app.postgresPid)
      for (const writer of writers) await writer.stop()
      await rm(scratch.dataDir, { recursive: true })

      const into = path.join(scratch.dir, 'restored')
      await done(scratch, ['restore', '--to', 'latest', '--into', into])
      await onRestored(scratch, into, async (other) => {
        t.diagnostic(lostOnlyTheLast(writers, await idsIn(other), killedAt))
      })
    }))

  it('goes on without a gap after the archiver was killed', () =>
    withScratch(async (scratch) => {
      const app = await scratch.start()
      const first = launch(scratch, ['backup', '--stream'])
      await bases(scratch, 1)
      assert.match(first.stderr(), /the archive begins here/)
      const second = await rung(scratch, ['backup', '--stream'])
      assert.equal(second.result.error.code, 'BACKUP_RUNNING')
      await write(app, 'while it streams')
      await archived(scratch)
      await first.kill()
      // More than a segment while nobody archives, and checkpoints that would throw the old ones away.
      const sql = await scratch.connect()
      for (let round = 0; round < 3; round += 1) {
        await write(app, `while it is away ${round}`)
        await sql.query('select pg_switch_wal()')
        await sql.query('checkpoint')
      }
      const third = launch(scratch, ['backup', '--stream'])
      await archived(scratch)
      assert.equal((await third.stop('SIGINT')).code, 0, third.stderr())
      assert.doesNotMatch(third.stderr(), /the archive begins here/)
      assert.match(third.stdout(), /^Archived to /m)
      assert.equal((await catalogueOf(scratch))!.bases.length, 1)
      assert.deepEqual((await done(scratch, ['backup', 'verify'])).faults, [])
      const into = path.join(scratch.dir, 'restored')
      await done(scratch, ['restore', '--to', 'latest', '--into', into])
      const ids = await idsIn(app)
      await onRestored(scratch, into, async (other) => assert.deepEqual(await idsIn(other), ids))
    }))

  it('begins anew, with a base backup, where the server no longer has the log', () =>
    withScratch(async (scratch) => {
      const app = await startArchiving(scratch)
      await bases(scratch, 1)
      await write(app, 'before the gap')
      await archived(scratch)
      sameExit(await app.stop(), 0)
      const without = await scratch.start()
      const sql = await scratch.connect()
      await sql.query(`select pg_drop_replication_slot('rung_backup')`)
      for (let round = 0; round < 3; round += 1) {
        await write(without, `in the gap ${round}`)
        await sql.query('select pg_switch_wal()')
        await sql.query('checkpoint')
      }
      await sql.end()
      sameExit(await without.stop(), 0)
      const again = await startArchiving(scratch)
      await bases(scratch, 2)
      await write(again, 'after the gap')
      await archived(scratch)
      assert.match(again.stdout(), /archive-begun/)
      const [listed] = await done(scratch, ['backup', 'list'])
      const [first, second] = listed.bases.map(
        ({ restores }: { restores: { from: string; to: string }[] }) => restores[0],
      )
      assert.ok(first.to < second.from, 'the time of the gap cannot be restored')
      assert.deepEqual((await done(scratch, ['backup', 'verify'])).faults, [])
      const into = path.join(scratch.dir, 'restored')
      const between = new Date((Date.parse(first.to) + Date.parse(second.from)) / 2).toISOString()
      const refused = await rung(scratch, ['restore', '--to', between, '--into', into])
      assert.equal(refused.result.error.code, 'BACKUP_OUT_OF_RANGE')
      assert.equal(refused.result.error.ranges.length, 2)
      await done(scratch, ['restore', '--to', first.to, '--into', into])
      await onRestored(scratch, into, async (other) => assert.deepEqual(await idsIn(other), ['before the gap']))
    }))
})

describe('rung backup', () => {
  it('one that was killed is ignored, and swept up by the next', () =>
    withScratch(async (scratch) => {
      await scratch.start()
      let drafts: string[] = []
      for (let attempt = 0; drafts.length === 0; attempt += 1) {
        assert.ok(attempt < 20, 'it is always faster than the kill')
        const backup = launch(scratch, ['backup'])
        await Promise.race([
          until(async () => (await filesOf(scratch, /base\/\.[^/]+\/base\.tar\.zst$/).catch(() => []))[0], 'it copies'),
          backup.exited,
        ])
        await backup.kill()
        drafts = await filesOf(scratch, /base\/\.[^/]+$/)
      }
      const taken = (await catalogueOf(scratch))!.bases.length
      const base = await done(scratch, ['backup'])
      assert.equal(base.secretKept, true)
      const [listed] = await done(scratch, ['backup', 'list'])
      assert.equal(listed.bases.length, taken + 1)
      assert.deepEqual(listed.faults, [])
      assert.deepEqual(await filesOf(scratch, /base\/\.[^/]+$/), [], 'the draft is gone')
    }))

  it('keeps the newest base backups and removes only what none of them needs', () =>
    withScratch(async (scratch) => {
      const app = await startArchiving(scratch)
      await bases(scratch, 1)
      const sql = await scratch.connect()
      for (const id of ['one', 'two', 'three']) {
        await write(app, id)
        await sql.query('select pg_switch_wal()')
        await done(scratch, ['backup'], { RUNG_BACKUP_KEEP: '2' })
      }
      await write(app, 'four')
      await archived(scratch)
      const catalogue = (await catalogueOf(scratch))!
      assert.equal(catalogue.bases.length, 2)
      const needed = catalogue.bases[0]!.startLsn
      const first = catalogue.timelines[0]!.segments[0]!
      assert.equal(first.index, Number(parseLsn(needed)! / 16_777_216n), 'the log begins where the oldest one does')
      assert.deepEqual((await done(scratch, ['backup', 'verify'])).faults, [])
      for (const [base, there] of [
        [catalogue.bases[0]!, ['one', 'two']],
        [catalogue.bases[1]!, ['one', 'three', 'two']],
      ] as const) {
        const into = path.join(scratch.dir, base.id)
        await done(scratch, ['restore', '--to', new Date(base.finishedAt).toISOString(), '--into', into])
        await onRestored(scratch, into, async (other) => assert.deepEqual(await idsIn(other), there))
      }
    }))

  it('says what it cannot do for a Postgres of others', () =>
    withScratch(async (scratch) => {
      const env = { DATABASE_URL: 'postgres://somebody@localhost/app' }
      for (const args of [['backup'], ['backup', '--stream']]) {
        const { code, result } = await rung(scratch, args, env)
        assert.equal(code, 1)
        assert.equal(result.error.code, 'BACKUP_UNSUPPORTED')
      }
      const { result } = await rung(scratch, ['backup', 'list', '--drill'])
      assert.equal(result.error.code, 'COMMAND_INVALID')
    }))
})

/** An app with a base backup, some complete segments of log and one that grows; stopped. */
async function prepared(scratch: Scratch): Promise<void> {
  const app = await startArchiving(scratch)
  await bases(scratch, 1)
  const sql = await scratch.connect()
  for (const id of ['one', 'two', 'three']) {
    await write(app, id)
    await sql.query('select pg_switch_wal()')
  }
  await write(app, 'four')
  await archived(scratch)
  await sql.end()
  sameExit(await app.stop(), 0)
}

describe('rung backup verify', () => {
  it('finds each damaged file and names it, and restore refuses it', (t: TestContext) =>
    withScratch(async (scratch) => {
      await prepared(scratch)
      assert.deepEqual((await done(scratch, ['backup', 'verify'])).faults, [])
      const complete = await filesOf(scratch, /\.zst$/)
      const segments = complete.filter((file) => file.includes('wal'))
      assert.ok(segments.length >= 3)
      const [segment] = segments.slice(-2)
      const [partial] = await filesOf(scratch, /\.partial$/)
      const [manifest] = await filesOf(scratch, /backup\.json$/)
      const tar = complete.find((file) => file.endsWith('base.tar.zst'))!
      const [secret] = await filesOf(scratch, /secret$/)
      const [list] = await filesOf(scratch, /backup_manifest$/)
      const [position] = await filesOf(scratch, /position\.json$/)
      const cases: [what: string, file: string, change: (file: string) => Promise<void>, refused?: true][] = [
        ['a flipped byte in the data', tar, flip, true],
        ['a flipped byte in a header of the data', tar, flipHeader, true],
        ['data that is there twice', tar, twice, true],
        ['a flipped byte in the list of files', list!, flip],
        ['a flipped byte in the keys', secret!, flip],
        ['a flipped byte in the log', segment!, flip, true],
        // Its end may be beyond what was confirmed, and is cut off.
        ['a flipped byte in the growing segment', partial!, (file) => flip(file, 0)],
        ['truncated data', tar, half, true],
        ['a truncated segment', segment!, half],
        ['a truncated growing segment', partial!, half],
        ['missing data', tar, remove],
        ['a missing segment', segment!, remove],
        ['a missing segment with its manifest', segment!, removeBoth],
        ['a missing growing segment', partial!, remove],
        ['a torn manifest', manifest!, half],
        ['a changed manifest', manifest!, flip],
        ['a torn manifest of a segment', segment!.replace('.zst', '.json'), half],
        ['a torn position', position!, half],
      ]
      for (const [what, name, change, refused] of cases) {
        const file = path.join(backupDirOf(scratch), name)
        const untouched = await keepCopies(file)
        await change(file)
        const { code, result } = await rung(scratch, ['backup', 'verify'])
        assert.equal(code, 1, `${what} is not found`)
        const named = result.faults.map((fault: { file: string }) => fault.file)
        assert.ok(named.includes(name), `${what}: ${name} is not named in ${named}`)
        t.diagnostic(`${what}: ${result.faults.map((fault: { what: string }) => fault.what).join('; ')}`)
        if (refused) {
          const into = path.join(scratch.dir, 'damaged')
          const { error } = (await rung(scratch, ['restore', '--to', 'latest', '--into', into])).result
          assert.equal(error.code, 'BACKUP_DAMAGED', `${what}: ${error.message}`)
          assert.match(error.message, new RegExp(path.basename(name).replace('.zst', '')))
          assert.deepEqual(await readdir(into), [], 'nothing is left')
        }
        await untouched()
      }
      assert.deepEqual((await done(scratch, ['backup', 'verify'])).faults, [])
    }))

  it('--drill: every table is the same while the app writes; a silent change of a page is found', (t) =>
    withScratch(async (scratch) => {
      let app = await startArchiving(scratch)
      await bases(scratch, 1)
      await write(app, 'planted')
      const writers = ['a', 'b'].map((name) => startWriter(app.url, name))
      await writers[0]!.more(50)
      const { drill } = await done(scratch, ['backup', 'verify', '--drill'])
      await writers[0]!.more(1)
      for (const writer of writers) await writer.stop()
      assert.equal(drill.equal, true)
      const entry = drill.tables.find(({ table }: { table: string }) => table === 'ledger.entry')
      assert.ok(entry.live.rows >= 50)
      assert.deepEqual(entry.live, entry.restored)
      t.diagnostic(`${entry.live.rows} rows compared, restored in ${drill.durationMs} ms`)

      // A bit of the disk flips below a database that is told not to mind.
      const sql = await scratch.connect()
      // A page that was not vacuumed would be written into the log when autovacuum or a reader marks its
      // rows as visible: with the wrong bit, which a restore would then have too.
      await sql.query('vacuum (freeze) ledger.entry')
      await sql.query('alter role rung set ignore_checksum_failure = on')
      const { rows } = await sql.query(`select pg_relation_filepath('ledger.entry') as file`)
      await sql.end()
      await archived(scratch)
      sameExit(await app.stop(), 0)
      const table = path.join(scratch.dataDir, 'postgres', rows[0].file)
      const page = await readFile(table)
      const at = page.indexOf('planted')
      assert.ok(at > 0)
      page[at]! ^= 1
      await writeFile(table, page)
      app = await startArchiving(scratch)
      const found = await rung(scratch, ['backup', 'verify', '--drill'])
      assert.equal(found.code, 1)
      assert.equal(found.result.drill.equal, false)
      assert.deepEqual(
        found.result.drill.tables
          .filter(({ equal }: { equal: boolean }) => !equal)
          .map(({ table }: { table: string }) => table),
        ['ledger.entry'],
      )
      const text = launch(scratch, ['backup', 'verify', '--drill'])
      assert.equal((await text.exited).code, 1)
      assert.match(text.stdout(), /^ledger\.entry .*DIFFERS$/m)
      assert.ok(
        text
          .stdout()
          .split('\n')
          .every((line) => line.length <= 80),
      )
    }))
})

describe('rung restore', () => {
  it('refuses a folder that is not empty, a time out of range, and a directory without backups', () =>
    withScratch(async (scratch) => {
      const nothing = await rung(scratch, ['restore', '--to', 'latest', '--into', 'new'])
      assert.equal(nothing.result.error.code, 'BACKUP_NOT_FOUND')
      await scratch.start()
      await done(scratch, ['backup'])
      const refused = await rung(scratch, ['restore', '--to', 'latest', '--into', scratch.dataDir])
      assert.equal(refused.result.error.code, 'RESTORE_NOT_EMPTY')
      assert.ok(postgresPidOf(scratch.dataDir), 'the live database runs on')
      for (const time of ['2020-01-01T00:00:00Z', '2090-01-01 00:00']) {
        const { result } = await rung(scratch, ['restore', '--to', time, '--into', 'new'])
        assert.equal(result.error.code, 'BACKUP_OUT_OF_RANGE')
        assert.equal(result.error.ranges.length, 1)
      }
      assert.ok(!existsSync(path.join(scratch.dir, 'new')))
      for (const time of [
        'soon',
        '2026-02-30 10:15',
        '2026-02-29T10:15Z',
        '2026-13-01 10:15',
        '2026-11-00 10:15',
        '2026-11-03 10:61',
      ]) {
        const { error } = (await rung(scratch, ['restore', '--to', time, '--into', 'new'])).result
        assert.deepEqual([error.code, error.message.includes(`"${time}"`)], ['COMMAND_INVALID', true])
      }
    }))

  it('that was killed leaves nothing that could be started by mistake', () =>
    withScratch(async (scratch) => {
      await scratch.start()
      await done(scratch, ['backup'])
      const into = path.join(scratch.dir, 'restored')
      const restore = launch(scratch, ['restore', '--to', 'latest', '--into', into])
      await until(() => existsSync(path.join(into, 'postgres', 'PG_VERSION')), 'it copies')
      await restore.kill()
      assert.ok(!existsSync(path.join(into, 'rung.json')), 'it was faster than the kill')
      const refused = await scratch.startFails({ dataDir: into })
      assert.equal(refused.error?.code, 'DATA_DIR_FOREIGN')
    }))

  it('gives each restored database a timeline of its own, in the same backup directory', () =>
    withScratch(async (scratch) => {
      const app = await startArchiving(scratch)
      await bases(scratch, 1)
      await write(app, 'common')
      const time = new Date(await archived(scratch)).toISOString()
      await write(app, 'only in the first')
      await archived(scratch)
      sameExit(await app.stop(), 0)
      for (const [index, name] of ['second', 'third'].entries()) {
        const into = path.join(scratch.dir, name)
        const { timeline } = await done(scratch, ['restore', '--to', time, '--into', into, '--timeline', '1'])
        assert.equal(timeline, index + 2)
        const other = await startArchiving(scratch, into)
        await bases(scratch, index + 2)
        await write(other, `only in the ${name}`)
        await archived(scratch, into)
        sameExit(await other.stop(), 0)
      }
      assert.deepEqual((await done(scratch, ['backup', 'verify'])).faults, [])
      for (const [timeline, name] of ['first', 'second', 'third'].entries()) {
        const into = path.join(scratch.dir, `again-${name}`)
        await done(scratch, ['restore', '--to', 'latest', '--into', into, '--timeline', String(timeline + 1)])
        await onRestored(scratch, into, async (again) => {
          assert.deepEqual(await idsIn(again), ['common', `only in the ${name}`])
        })
      }
      // By way of the first timeline's base backup, across the point where the third branched off.
      const catalogue = (await catalogueOf(scratch))!
      for (const { id } of catalogue.bases.slice(1)) {
        await rm(path.join(catalogue.folder, 'base', id), { recursive: true })
      }
      const into = path.join(scratch.dir, 'across')
      const third = path.join(scratch.dir, 'third')
      const { base } = await done(scratch, ['restore', '--to', 'latest', '--into', into], { RUNG_DATA: third })
      assert.equal(base, catalogue.bases[0]!.id)
      await onRestored(scratch, into, async (again) => {
        assert.deepEqual(await idsIn(again), ['common', 'only in the third'])
      })
      // Whichever was archived last: RUNG_DATA says whose history is meant.
      const own = path.join(scratch.dir, 'own')
      await done(scratch, ['restore', '--to', 'latest', '--into', own])
      await onRestored(scratch, own, async (again) => {
        assert.deepEqual(await idsIn(again), ['common', 'only in the first'])
      })
      // Where there is none, the one that was archived last.
      const last = path.join(scratch.dir, 'last')
      await done(scratch, ['restore', '--to', 'latest', '--into', last], { RUNG_DATA: path.join(scratch.dir, 'none') })
      await onRestored(scratch, last, async (again) => {
        assert.deepEqual(await idsIn(again), ['common', 'only in the third'])
      })
    }))
})

async function flip(file: string, share = 1 / 2): Promise<void> {
  const handle = await open(file, 'r+')
  const at = Math.floor((await handle.stat()).size * share)
  const byte = Buffer.alloc(1)
  await handle.read(byte, 0, 1, at)
  byte[0]! ^= 1
  await handle.write(byte, 0, 1, at)
  await handle.close()
}

/** So that it is a fault of the archive, and none of its compression. */
async function repack(file: string, change: (tar: Buffer) => Buffer): Promise<void> {
  await writeFile(file, zstdCompressSync(change(zstdDecompressSync(await readFile(file)))))
}

function flipHeader(file: string): Promise<void> {
  return repack(file, (tar) => {
    tar[0]! ^= 1
    return tar
  })
}

function twice(file: string): Promise<void> {
  return repack(file, (tar) => Buffer.concat([tar, tar]))
}

async function half(file: string): Promise<void> {
  await truncate(file, Math.floor((await stat(file)).size / 2))
}

async function remove(file: string): Promise<void> {
  await rm(file)
}

async function removeBoth(file: string): Promise<void> {
  await rm(file)
  await rm(file.replace('.zst', '.json'))
}

/** Gives a function that puts the file, and its manifest, back. */
async function keepCopies(file: string): Promise<() => Promise<void>> {
  const kept: [string, Buffer][] = []
  for (const one of new Set([file, file.replace('.zst', '.json')])) {
    if (existsSync(one)) kept.push([one, await readFile(one)])
  }
  return async () => {
    for (const [one, content] of kept) {
      await writeFile(`${one}.back`, content)
      await rename(`${one}.back`, one)
    }
  }
}
