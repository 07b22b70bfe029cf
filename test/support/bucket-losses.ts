import assert from 'node:assert/strict'
import { rm } from 'node:fs/promises'
import path from 'node:path'
import { type Bucket, openBucket } from '../../src/backup/bucket.ts'
import { cataloguesOf } from '../../src/backup/place.ts'
import { currentTimeline } from '../../src/backup/policy.ts'
import { parseLsn } from '../../src/kernel/position.ts'
import { backupDirOf, launch, lostOnlyTheLast, onRestored, rung, startWriter } from './backups.ts'
import { idsIn } from './ledger.ts'
import { ended, type RungProcess, type Scratch, until } from './process.ts'
import { s3UrlOf, type TestS3 } from './s3.ts'
import type { StoreDoor } from './store-door.ts'

/** Machines that are lost with all that they have, but for what is in the bucket. */

export const backupKey = 'the-key-of-the-tests-which-is-long-enough'

/** A folder of the bucket `backups`, and the environment that backs up to it: without a folder of its own, unless it is named. */
export function bucketFolder(
  s3: Pick<TestS3, 'origin'>,
  folder: string,
): { env: Record<string, string>; bucket: Bucket } {
  const url = `${s3UrlOf(s3, 'backups')}/${folder}`
  const env = { RUNG_BACKUP_DIR: '', RUNG_BACKUP_S3_URL: url, RUNG_BACKUP_KEY: backupKey, LOG_LEVEL: 'info' }
  return { env, bucket: openBucket({ url, key: backupKey }) }
}

/** Until so many base backups are in the bucket. */
export function copiedBases(bucket: Bucket, count: number): Promise<unknown> {
  return until(async () => (await cataloguesOf(bucket))[0]?.bases.length === count, `${count} base backups are copied`)
}

/** Until everything that is committed by now is in the bucket. */
export async function copied(scratch: Scratch, bucket: Bucket, dataDir = scratch.dataDir): Promise<void> {
  const sql = await scratch.connect(dataDir)
  const { rows } = await sql.query('select pg_current_wal_flush_lsn()::text as lsn')
  await sql.end()
  await until(async () => {
    const [catalogue] = await cataloguesOf(bucket)
    const position = catalogue && currentTimeline(catalogue)?.position
    return position && parseLsn(position.lsn)! >= parseLsn(rows[0].lsn)!
  }, 'the bucket has caught up')
}

/** Kills the app and its Postgres, and removes their disk. @returns when they were killed */
export async function loseMachine(scratch: Scratch, app: RungProcess, dataDir = scratch.dataDir): Promise<number> {
  process.kill(app.postgresPid, 'SIGKILL')
  const killedAt = performance.now()
  await app.kill()
  await ended(app.postgresPid)
  await rm(dataDir, { recursive: true })
  await rm(backupDirOf(scratch), { recursive: true, force: true })
  return killedAt
}

export async function restoreFromBucket(scratch: Scratch, env: Record<string, string>, into: string): Promise<string> {
  const folder = path.join(scratch.dir, into)
  const { code, result } = await rung(scratch, ['restore', '--from', 's3', '--to', 'latest', '--into', folder], env)
  assert.equal(code, 0, JSON.stringify(result))
  return folder
}

/**
 * Kills what archives and uploads at a request to the store, again and again while clients write: before it arrives, or when it is done. Then the
 * machine is lost.
 * @param at the numbers of the requests
 * @returns what was lost, in words; that may only be what was written after the last look
 */
export async function killUploads(
  scratch: Scratch,
  door: StoreDoor,
  folder: string,
  at: readonly number[],
): Promise<string> {
  const { env: ofBucket, bucket } = bucketFolder(door, folder)
  const env = { ...ofBucket, RUNG_BACKUP_DIR: backupDirOf(scratch) }
  const app = await scratch.start()
  const writers = ['a', 'b'].map((name) => startWriter(app.url, name))
  const sql = await scratch.connect()
  try {
    for (const [round, number] of at.entries()) {
      if (round % 3 === 2) await sql.query('select pg_switch_wal()')
      let seen = 0
      const reached = Promise.withResolvers<void>()
      const archiver = launch(scratch, ['backup', '--stream'], env)
      door.decide = () => {
        seen += 1
        if (seen >= number) {
          process.kill(archiver.pid, 'SIGKILL')
          reached.resolve()
        }
        return seen < number ? 'pass' : seen === number && round % 2 === 0 ? 'answer lost' : 'lost'
      }
      await reached.promise
      await archiver.exited
    }
    door.decide = () => 'pass'
    const last = launch(scratch, ['backup', '--stream'], env)
    await copiedBases(bucket, 1)
    await copied(scratch, bucket)
    const { bases } = (await cataloguesOf(bucket))[0]!
    assert.equal(bases.length, 1, 'there was no gap that needed another one')
    await sql.end()
    const killedAt = await loseMachine(scratch, app)
    for (const writer of writers) await writer.stop()
    await last.kill()
    const into = await restoreFromBucket(scratch, env, 'restored')
    let words = ''
    await onRestored(scratch, into, async (other) => {
      words = lostOnlyTheLast(writers, await idsIn(other), killedAt)
    })
    return `${at.length} kills; ${words}`
  } finally {
    door.decide = () => 'pass'
    bucket.close()
  }
}
