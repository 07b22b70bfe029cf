import assert from 'node:assert/strict'
import { createHash, randomBytes } from 'node:crypto'
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { after, before, describe, it } from 'node:test'
import { openArchive } from '../../src/backup/archive.ts'
import { type Bucket, claim, openBucket } from '../../src/backup/bucket.ts'
import { readCatalogue } from '../../src/backup/catalogue.ts'
import { checked } from '../../src/backup/content.ts'
import { isBaseDue } from '../../src/backup/keep.ts'
import {
  type BaseManifest,
  baseId,
  basesFolder,
  lsnOf,
  systemFolder,
  timelineFolder,
  walFolder,
} from '../../src/backup/layout.ts'
import { cataloguesOf, type Place } from '../../src/backup/place.ts'
import { verifyBackups } from '../../src/backup/report.ts'
import { seal } from '../../src/backup/sealed.ts'
import { startUploader, type UploadEvent, type Uploader } from '../../src/backup/uploader.ts'
import { S3Client } from '../../src/engines/s3/client.ts'
import { isRungError } from '../../src/kernel/errors.ts'
import { formatLsn, type Lsn } from '../../src/kernel/position.ts'
import { done, lostOnlyTheLast, onRestored, rung, startWriter } from '../support/backups.ts'
import {
  backupKey,
  bucketFolder,
  copied,
  copiedBases,
  killUploads,
  loseMachine,
  restoreFromBucket,
} from '../support/bucket-losses.ts'
import { idsIn, write } from '../support/ledger.ts'
import { withTempDir } from '../support/postgres.ts'
import { until, withScratch } from '../support/process.ts'
import { noS3, s3AddressOf, s3UrlOf, type TestS3, testS3 } from '../support/s3.ts'
import { openStoreDoor, type StoreDoor } from '../support/store-door.ts'

const system = '7710800039879746486'
const segmentBytes = 1024 ** 2

/** An archive as the archiver makes it, of a log that is made up. */
class MadeUpArchive {
  readonly dir: string
  #archive: Awaited<ReturnType<typeof openArchive>> | undefined
  lsn: Lsn = 0n
  #bases = 0

  constructor(dir: string) {
    this.dir = dir
  }

  async begin(): Promise<void> {
    await mkdir(basesFolder(systemFolder(this.dir, system)), { recursive: true })
    this.#archive = await openArchive(timelineFolder(systemFolder(this.dir, system), 1), 1, segmentBytes)
    await this.#archive.begin(this.#archive.resumable ?? lsnOf(4, 0, segmentBytes))
    this.lsn = this.#archive.end()
  }

  async write(bytes: number): Promise<void> {
    await this.#archive!.append(randomBytes(bytes))
    this.lsn = await this.#archive!.flush(Date.now())
  }

  async base(bytes = 9 * 1024 ** 2): Promise<void> {
    const startedAt = Date.UTC(2026, 10, 3) + this.#bases
    this.#bases += 1
    const id = baseId(startedAt)
    const folder = path.join(basesFolder(systemFolder(this.dir, system)), id)
    await mkdir(folder)
    const content = randomBytes(bytes)
    const file = { name: 'base.tar', bytes, sha256: createHash('sha256').update(content).digest('hex') }
    await writeFile(path.join(folder, file.name), content)
    const position = formatLsn(this.lsn)
    const manifest: BaseManifest = {
      ...{ id, system, postgres: '18', timeline: 1, startLsn: position, stopLsn: position, startedAt },
      ...{ finishedAt: startedAt, segmentBytes, files: [file] },
    }
    await writeFile(path.join(folder, 'backup.json'), seal(manifest))
  }

  async end(): Promise<void> {
    await this.#archive?.close()
  }
}

/** All that can be restored from a place, as digests. */
async function contentOf(place: Place): Promise<Record<string, string>> {
  const { bases, timelines } = await place.catalogue(system)
  const found: Record<string, string> = {}
  for (const base of bases) {
    for (const file of base.files) {
      for await (const _ of checked(place.readFile(base, file), file));
      found[base.id] = file.sha256
    }
  }
  for (const segment of timelines.flatMap(({ segments }) => segments)) {
    for await (const _ of checked(place.readSegment(segment), segment));
    found[segment.name] = `${segment.bytes} ${segment.sha256}`
  }
  return found
}

let s3: TestS3
let door: StoreDoor
before(async () => {
  if (noS3) return
  s3 = await testS3()
  await s3.bucket('backups')
  door = await openStoreDoor(s3)
})
after(async () => {
  door?.close()
  await s3?.stop()
})

describe('what copies backups to a bucket', { skip: noS3 }, () => {
  interface Fixture {
    archive: MadeUpArchive
    bucket: Bucket
    events: UploadEvent[]
    upload(options?: { serverLsn?: Lsn; dir?: string; keep?: number }): Uploader
    /** Until the bucket has everything. */
    settled(uploader: Uploader): Promise<void>
    /** The object's bytes as the store has them. */
    store: S3Client
    prefix: string
  }
  let count = 0

  function withArchive(body: (fixture: Fixture) => Promise<void>): Promise<void> {
    return withTempDir(async (dir) => {
      count += 1
      const prefix = `test-${count}`
      const address = `${s3UrlOf(door, 'backups')}/${prefix}`
      const bucket = openBucket({ url: address, key: backupKey })
      const store = new S3Client(s3AddressOf(`${s3UrlOf(s3, 'backups')}`))
      const archive = new MadeUpArchive(path.join(dir, 'a'))
      const events: UploadEvent[] = []
      const started: Uploader[] = []
      await archive.begin()
      try {
        await body({
          archive,
          bucket,
          events,
          store,
          prefix,
          upload(options = {}) {
            const uploader = startUploader({
              ...{ backupDir: options.dir ?? archive.dir, bucket, keep: options.keep ?? 7, bytesPerS: undefined },
              archive: () => ({ system, timeline: 1, serverLsn: options.serverLsn ?? archive.lsn }),
              onEvent: (event) => events.push(event),
            })
            uploader.renew()
            started.push(uploader)
            return uploader
          },
          async settled(uploader) {
            await until(
              () =>
                uploader.reached(archive.lsn).then(
                  () => true,
                  () => false,
                ),
              'the bucket has all',
            )
          },
        })
      } finally {
        door.decide = () => 'pass'
        for (const uploader of started) await uploader.stop()
        await archive.end()
        bucket.close()
        store.close()
      }
    })
  }
  const here = (archive: MadeUpArchive) =>
    import('../../src/backup/folder.ts').then(({ folderPlace }) => folderPlace(archive.dir))

  it('copies base backups and the log as it grows, and what it replaces is removed', () =>
    withArchive(async ({ archive, bucket, upload, settled }) => {
      await archive.base()
      await archive.write(300_000)
      const uploader = upload()
      await settled(uploader)
      for (const bytes of [20_000, 400_000, 3 * segmentBytes, 5]) {
        await archive.write(bytes)
        await settled(uploader)
        assert.deepEqual(await contentOf(bucket), await contentOf(await here(archive)))
      }
      assert.deepEqual((await verifyBackups(bucket, () => {})).faults, [])
      await uploader.stop()
      const names = (await bucket.pieces(system)).map(({ name }) => name)
      assert.ok(names.length > new Set(names).size, 'pieces stay for readers that have listed them')
    }))

  it('goes on where it was, whichever request does not arrive or loses its answer', (t) =>
    withArchive(async ({ archive, bucket, upload, settled }) => {
      await archive.base(1000)
      const first = upload()
      await settled(first)
      await first.stop()
      let steps = 0
      // Every fifth request: the long form kills at any.
      for (let isDone = false; !isDone; steps += 5) {
        await archive.write(segmentBytes * 0.4)
        if (steps % 10 === 0) await archive.base(5 * 1024 ** 2)
        let seen = 0
        door.decide = () => {
          seen += 1
          return seen <= steps ? 'pass' : seen === steps + 1 && steps % 2 === 0 ? 'answer lost' : 'lost'
        }
        const killed = upload({ keep: 100 })
        isDone = await killed.reached(archive.lsn).then(
          () => seen <= steps, // it needs fewer requests
          () => false,
        )
        await killed.stop()
      }
      door.decide = () => 'pass'
      const uploader = upload({ keep: 100 })
      await settled(uploader)
      const ours = await contentOf(await here(archive))
      assert.deepEqual(await contentOf(bucket), ours)
      t.diagnostic(`killed at ${steps / 5} requests, ${Object.keys(ours).length} files`)
    }))

  it('catches up after the store was away, and says so', () =>
    withArchive(async ({ archive, bucket, upload, settled, events }) => {
      await archive.base(1000)
      const uploader = upload()
      await settled(uploader)
      door.decide = () => 'lost'
      await archive.write(2.5 * segmentBytes)
      await until(() => events.some(({ kind }) => kind === 'lost'), 'it says that it cannot')
      await until(() => uploader.state().behindBytes > 2 * segmentBytes, 'it knows how much is behind')
      door.decide = () => 'pass'
      await settled(uploader)
      await until(() => events.some(({ kind }) => kind === 'caught-up'), 'it says that it can')
      assert.equal(uploader.state().behindBytes, 0)
      assert.deepEqual(await contentOf(bucket), await contentOf(await here(archive)))
    }))

  it('keeps the newest base backups and their log, and removes what was never finished before them', () =>
    withArchive(async ({ archive, bucket, upload, settled, events }) => {
      await archive.base(1000)
      const first = upload({ keep: 2 })
      await settled(first)
      await bucket.put(`${system}/base/20200101T000000.000Z/base.tar/00000`, Buffer.from('killed'))
      door.decide = (request) => (request.startsWith('DELETE') ? 'refused' : 'pass')
      for (let round = 0; round < 3; round += 1) {
        await archive.write(1.5 * segmentBytes)
        await archive.base(1000)
        await settled(first)
        if (round !== 1) continue
        // As a store does that keeps everything for a time.
        assert.deepEqual([(await bucket.catalogue(system)).bases.length, events.at(-1)!.kind], [3, 'refused'])
        assert.deepEqual((await verifyBackups(bucket, () => {})).faults, [])
        door.decide = () => 'pass'
      }
      const { bases, timelines } = await bucket.catalogue(system)
      assert.equal(bases.length, 2)
      const [segment] = timelines[0]!.segments
      assert.equal(formatLsn(lsnOf(segment!.index, 0, segmentBytes)) <= bases[0]!.startLsn, true)
      assert.deepEqual((await verifyBackups(bucket, () => {})).faults, [])
      assert.equal((await bucket.list(`${system}/base/2020`)).size, 0)
      assert.equal((await readCatalogue(archive.dir, system)).bases.length, 4, 'the folder has its own rule')
    }))

  it('finds out that another archiver has claimed the log, or that the bucket has another one', () =>
    withArchive(async ({ archive, bucket, upload, settled, events }) => {
      await archive.base(1000)
      await archive.write(1000)
      const uploader = upload()
      await settled(uploader)
      await claim(bucket, system, 1, { host: 'another' })
      await until(() => events.some((event) => event.kind === 'lost'), 'it stops')
      const [lost] = events.splice(0)
      assert.ok(lost!.kind === 'lost' && isRungError(lost!.error, 'BACKUP_FOREIGN'), String(lost))
      await uploader.stop()

      // A copy of the machine that was set back, and goes on by itself.
      const before = await contentOf(bucket)
      const copy = new MadeUpArchive(path.join(archive.dir, '..', 'b'))
      await copy.begin()
      await copy.write(500)
      const behind = upload({ dir: copy.dir, serverLsn: copy.lsn })
      await assert.rejects(behind.reached(copy.lsn), (error) => isRungError(error, 'BACKUP_FOREIGN'))
      await behind.stop()
      await copy.write(5000)
      const beyond = upload({ dir: copy.dir, serverLsn: copy.lsn })
      await assert.rejects(beyond.reached(copy.lsn), (error) => isRungError(error, 'BACKUP_FOREIGN'))
      assert.deepEqual(await contentOf(bucket), before)
      await copy.end()
    }))

  it('goes on after any number of a claim, and says when there is none left', () =>
    withArchive(async ({ archive, bucket, upload, settled, events }) => {
      await archive.base(1000)
      await bucket.put(`${system}/wal/00000001/claim-x-1`, Buffer.from('no claim'))
      for (const number of ['000009', '999999']) {
        await bucket.put(`${system}/wal/00000001/claim-${number}-aaaaaa`, Buffer.from('{}'))
        await archive.write(0.4 * segmentBytes)
        const uploader = upload()
        await settled(uploader)
        await uploader.stop()
        assert.deepEqual(await contentOf(bucket), await contentOf(await here(archive)))
      }
      await bucket.put(`${system}/wal/00000001/claim-999999999999-aaaaaa`, Buffer.from('{}'))
      const last = upload()
      await until(() => events.length > 0, 'it says so')
      assert.match(String(events[0]!.kind === 'lost' && events[0]!.error), /a claim with the number 999999999999/)
      await last.stop()
    }))

  it('copies the log also while a base backup cannot be copied, under one claim', () =>
    withArchive(async ({ archive, bucket, upload, settled, events }) => {
      await archive.base(1000)
      const first = upload()
      await settled(first)
      await first.stop()
      await archive.base(1000)
      const [, broken] = (await readCatalogue(archive.dir, system)).bases
      const file = path.join(basesFolder(systemFolder(archive.dir, system)), broken!.id, 'base.tar')
      const content = await readFile(file)
      await rm(file)
      const uploader = upload()
      await assert.rejects(uploader.reached(archive.lsn))
      for (let round = 0; round < 3; round += 1) {
        await archive.write(10_000)
        await until(() => uploader.state().lsn >= archive.lsn, 'the log is copied')
      }
      assert.equal(events.filter(({ kind }) => kind !== 'lost').length, 0)
      const claims = [...(await bucket.list(`${system}/wal/00000001/claim-`)).keys()]
      assert.deepEqual(
        claims.map((name) => /claim-(\d+)-/.exec(name)![1]),
        ['000002'],
      )
      await writeFile(file, content)
      await settled(uploader)
      assert.equal(events.at(-1)!.kind, 'caught-up')
      assert.equal((await bucket.catalogue(system)).bases.length, 2)
    }))

  it('is read also when pieces were put together since they were listed', () =>
    withArchive(async ({ archive, bucket, upload, settled }) => {
      await archive.base(1000)
      const uploader = upload()
      for (let n = 0; n < 3; n += 1) {
        await archive.write(0.3 * segmentBytes)
        await settled(uploader)
      }
      await archive.write(0.2 * segmentBytes)
      const listed = await until(async () => {
        const [first] = (await bucket.catalogue(system)).timelines[0]!.segments
        return first!.bytes === segmentBytes && first!.pieces!.length > 1 && first
      }, 'it is complete, in pieces')
      await until(
        async () => (await bucket.catalogue(system)).timelines[0]!.segments[0]!.pieces!.length === 1,
        'it is one object',
      )
      await bucket.remove(listed.pieces!.map((piece) => `${system}/${piece}`)) // as a minute later
      const now = await bucket.renewed(listed)
      for await (const _ of checked(bucket.readSegment(now), now));
    }))

  it('reserves the number of a timeline for one restore, until somebody else archives on it', () =>
    withArchive(async ({ archive, bucket, upload, settled }) => {
      await archive.base(1000)
      const name = '00000002.history'
      assert.equal(await bucket.reserve(system, name, 'a restore'), true)
      assert.equal(await bucket.reserve(system, name, 'another restore'), false)
      await writeFile(path.join(walFolder(systemFolder(archive.dir, system)), name), 'a failover')
      await settled(upload())
      assert.deepEqual(await bucket.histories(system), new Map([[name, 'a failover']]))
      door.decide = (request) => (request.startsWith('PUT') ? 'refused' : 'pass')
      assert.equal(await bucket.reserve(system, '00000003.history', 'with keys that only read'), true)
      assert.equal((await bucket.histories(system)).size, 1)
    }))

  it('goes on with the base backup that it has begun, which is not replaced by a newer one until then', () =>
    withArchive(async ({ archive, bucket, upload, settled }) => {
      await archive.base()
      await archive.write(1000)
      const due = (keep: number) =>
        isBaseDue({ backupDir: archive.dir, keep, outside: { bucket, keep, bytesPerS: undefined } }, system)
      let files = 0
      door.decide = (request) => {
        if (/^PUT .*\/base\//.test(request)) files += 1
        return files > 1 ? 'lost' : 'pass'
      }
      const killed = upload()
      await until(() => files > 1, 'some of it is there')
      assert.equal(await due(1), false, 'the bucket cannot be asked')
      assert.equal(await due(2), true, 'it replaces none')
      await killed.stop()
      door.decide = () => 'pass'
      assert.deepEqual([await due(1), await due(2)], [false, true])
      await archive.base(1000)
      assert.deepEqual([await due(1), await due(2), await due(3)], [false, false, true])
      const [first, second] = (await readCatalogue(archive.dir, system)).bases
      assert.deepEqual((await bucket.catalogue(system)).unfinished, [first!.id])
      await settled(upload())
      const { bases, unfinished } = await bucket.catalogue(system)
      assert.deepEqual([bases.map(({ id }) => id), unfinished], [[first!.id, second!.id], []])
      assert.equal(await due(1), true)
    }))

  it('is read beside backups of another database with another key', () =>
    withArchive(async ({ archive, bucket, prefix, upload, settled }) => {
      await archive.base(1000)
      await settled(upload())
      const other = openBucket({ url: `${s3UrlOf(door, 'backups')}/${prefix}`, key: 'b'.repeat(64) })
      await other.put('7710800039879746487/base/20261103T000000.000Z/backup.json', Buffer.from('{}'))
      assert.deepEqual(
        (await cataloguesOf(bucket)).map(({ system: one }) => one),
        [system],
      )
      await assert.rejects(cataloguesOf(bucket, '7710800039879746487'), (error) =>
        isRungError(error, 'BACKUP_KEY_WRONG'),
      )
      other.close()
    }))

  it('lets no damage pass', (t) =>
    withArchive(async ({ archive, bucket, upload, settled, store, prefix }) => {
      await archive.base(5 * 1024 ** 2)
      await archive.write(3.5 * segmentBytes)
      const uploader = upload()
      await settled(uploader)
      await uploader.stop()
      const objects = [...(await bucket.list(`${system}/`)).keys()]
      const tar = objects.filter((name) => name.includes('base.tar'))
      const whole = objects.filter((name) => name.includes(`-0-${segmentBytes}-`))
      const growing = objects.filter((name) => /\/0{7}1\/0+1.*7-/.test(name) || name.includes('-0-524288-'))
      assert.ok(tar.length >= 2 && whole.length === 3 && growing.length >= 1, objects.join('\n'))
      const read = async (name: string) => {
        const chunks = await (await store.open({ method: 'GET', key: `${prefix}/${name}` })).toArray()
        return Buffer.concat(chunks)
      }
      const put = async (name: string, bytes: Uint8Array) => {
        const sha256 = createHash('sha256').update(bytes).digest('hex')
        await store.ask({ method: 'PUT', key: `${prefix}/${name}`, body: { bytes, sha256 } })
      }
      const flipped = (bytes: Buffer) => {
        const changed = Buffer.from(bytes)
        changed[bytes.length >> 1]! ^= 1
        return changed
      }
      const drop = (name: string) => store.ask({ method: 'DELETE', key: `${prefix}/${name}` })
      const cases: [string, string, (name: string) => Promise<unknown>, RegExp][] = [
        ['a flipped byte', tar[1]!, async (name) => put(name, flipped(await read(name))), /cannot be decrypted/],
        ['a cut', tar[1]!, async (name) => put(name, (await read(name)).subarray(0, 1000)), /cannot be decrypted/],
        ['an exchange', tar[1]!, async (name) => put(name, await read(tar[0]!)), /cannot be decrypted/],
        ['a missing piece', tar[1]!, drop, /is missing/],
        ['an empty piece', tar[1]!, (name) => put(name, Buffer.alloc(0)), /is truncated/],
        ['a flipped byte of the log', whole[1]!, async (name) => put(name, flipped(await read(name))), /decrypted/],
        ['an exchange of the log', whole[1]!, async (name) => put(name, await read(whole[0]!)), /decrypted/],
        ['a missing segment', whole[1]!, drop, /the log has a gap/],
        [
          'a cut of what grows',
          growing.at(-1)!,
          async (name) => put(name, (await read(name)).subarray(0, 70)),
          /decrypted/,
        ],
        [
          'another description',
          objects.find((name) => name.endsWith('backup.json'))!,
          async (name) => put(name, flipped(await read(name))),
          /was changed/,
        ],
      ]
      for (const [what, name, change, says] of cases) {
        const original = await read(name)
        await change(name)
        const { faults } = await verifyBackups(bucket, () => {})
        assert.ok(
          faults.some((fault) => says.test(fault.what)),
          `${what}: ${JSON.stringify(faults)}`,
        )
        t.diagnostic(`${what}: ${faults.map((fault) => `${fault.file} ${fault.what}`).join('; ')}`)
        await put(name, original)
      }
      assert.deepEqual((await verifyBackups(bucket, () => {})).faults, [])
      const wrong = openBucket({ url: `${s3UrlOf(door, 'backups')}/${prefix}`, key: 'w'.repeat(43) })
      await assert.rejects(wrong.catalogue(system), (error) => isRungError(error, 'BACKUP_KEY_WRONG'))
      wrong.close()
      await rm(archive.dir, { recursive: true })
    }))
})

describe('a machine that is lost', { skip: noS3 }, () => {
  it('is restored on an empty one with all but the last second, and goes on from there', (t) =>
    withScratch(async (scratch) => {
      const { env, bucket } = bucketFolder(s3, 'lost')
      const app = await scratch.start({ env })
      await copiedBases(bucket, 1)
      const secret = await readFile(path.join(scratch.dataDir, 'secret'), 'utf8')
      const writers = ['a', 'b'].map((name) => startWriter(app.url, name))
      await writers[0]!.more(20)
      await copied(scratch, bucket)
      // Longer than the loss that is allowed: else there were nothing to lose.
      const began = performance.now()
      await until(() => performance.now() - began > 3_000, 'three seconds of writes')
      const killedAt = await loseMachine(scratch, app)
      for (const writer of writers) await writer.stop()

      const wrong = { ...env, RUNG_BACKUP_KEY: 'another-key-of-the-tests-which-is-as-long' }
      const refused = await rung(scratch, ['restore', '--from', 's3', '--to', 'latest', '--into', 'nowhere'], wrong)
      assert.equal(refused.result.error.code, 'BACKUP_KEY_WRONG')
      const drilled = await done(scratch, ['backup', 'drill', '--from', 's3'], env)
      assert.equal(drilled.compared, false)
      const entries = drilled.tables.find(({ table }: { table: string }) => table === 'ledger.entry')
      assert.ok(entries.restored.rows > 0)
      const { faults } = await done(scratch, ['backup', 'verify', '--from', 's3'], env)
      assert.deepEqual(faults, [])

      const into = await restoreFromBucket(scratch, env, 'restored')
      assert.equal(await readFile(path.join(into, 'secret'), 'utf8'), secret, 'tokens and signed URLs stay valid')
      const second = await scratch.start({ dataDir: into, env })
      t.diagnostic(lostOnlyTheLast(writers, await idsIn(second), killedAt))
      await write(second, 'on the second machine')
      const ids = await idsIn(second)
      await copiedBases(bucket, 2)
      await copied(scratch, bucket, into)
      const listed = await done(scratch, ['backup', 'list'], { ...env, RUNG_DATA: into })
      assert.equal(listed[0].outside.behindBytes, 0)
      assert.equal(listed[0].timeline, 2)
      const metrics = await (await fetch(`${second.url}/metrics`)).text()
      assert.match(metrics, /backup_uploaded_timestamp_seconds [1-9]/)
      assert.match(metrics, /backup_behind_bytes 0/)
      const { drill } = await done(scratch, ['backup', 'verify', '--drill', '--from', 's3'], {
        ...env,
        RUNG_DATA: into,
      })
      assert.equal(drill.equal, true)
      await loseMachine(scratch, second, into)
      const third = await restoreFromBucket(scratch, env, 'again')
      await onRestored(scratch, third, async (other) => assert.deepEqual(await idsIn(other), ids))
      bucket.close()
    }))

  it('has lost nothing by kills of what uploads, whatever it was at', (t) =>
    withScratch(async (scratch) => {
      t.diagnostic(await killUploads(scratch, door, 'kills', [4, 11]))
    }))

  it('says what is missing before it backs up outwards', () =>
    withScratch(async (scratch) => {
      const { env } = bucketFolder(s3, 'settings')
      const without = await rung(scratch, ['backup', 'list'], { ...env, RUNG_BACKUP_KEY: '' })
      assert.equal(without.result.error.code, 'CONFIG_INVALID')
      assert.match(without.result.error.message, /rung backup key/)
      const { key } = await done(scratch, ['backup', 'key'])
      assert.match(key, /^[\w-]{43}$/)
      const nowhere = await rung(scratch, ['restore', '--from', 's3', '--to', 'latest', '--into', 'x'])
      assert.equal(nowhere.result.error.code, 'CONFIG_INVALID')
      const empty = await rung(scratch, ['restore', '--from', 's3', '--to', 'latest', '--into', 'x'], env)
      assert.equal(empty.result.error.code, 'BACKUP_NOT_FOUND')
    }))
})
