import assert from 'node:assert/strict'
import { rm } from 'node:fs/promises'
import path from 'node:path'
import { memberFiles, readPrimacy } from '../src/engines/postgres/members.ts'
import { killAllIn } from '../src/engines/process/processes-in.ts'
import { seededRandom } from '../src/kernel/random.ts'
import { lostOnlyTheLast, onRestored, startWriter } from '../test/support/backups.ts'
import {
  bucketFolder,
  copied,
  copiedBases,
  killUploads,
  loseMachine,
  restoreFromBucket,
} from '../test/support/bucket-losses.ts'
import { idsIn } from '../test/support/ledger.ts'
import { openScratch, type Scratch, until } from '../test/support/process.ts'
import { type TestS3, testS3 } from '../test/support/s3.ts'
import { openStoreDoor } from '../test/support/store-door.ts'
import { startWriters } from '../test/support/writers.ts'
import type { Bench } from './run.ts'
import { machineFacts, progress } from './support/report.ts'

const kills = 100
const losses = 10

/** The long form of `test/backup/bucket.test.ts`. `--rounds` is the number of lost machines. */
const bench: Bench = {
  claim:
    'whatever is killed while backups are copied to a bucket, it has every acknowledged write but for the last second, and with a synchronous standby all of them (it fails otherwise)',
  async run({ json, rounds = losses }) {
    const found: string[] = []
    const tell = (text: string) => {
      found.push(text)
      if (!json) progress(text)
    }
    const s3 = await testS3()
    await s3.bucket('backups')
    const door = await openStoreDoor(s3)
    const within = async (body: (scratch: Scratch) => Promise<string>) => {
      const scratch = await openScratch()
      await body(scratch)
        .then(tell)
        .finally(() => scratch.end())
    }
    try {
      const random = seededRandom(46)
      const at = Array.from({ length: kills }, () => 1 + Math.floor(random() * 30))
      await within((scratch) => killUploads(scratch, door, 'kills', at))
      for (let round = 0; round < rounds; round += 1) await within((scratch) => loseOne(scratch, s3, `lost-${round}`))
      await within((scratch) => losePrimary(scratch, s3))
    } finally {
      door.close()
      await s3.stop()
    }
    return { claim: bench.claim, facts: machineFacts('18'), kills, losses: rounds, found }
  },
}
export default bench

/** One machine, lost while clients write. */
async function loseOne(scratch: Scratch, s3: TestS3, folder: string): Promise<string> {
  const { env, bucket } = bucketFolder(s3, folder)
  const app = await scratch.start({ env })
  await copiedBases(bucket, 1)
  const writers = ['a', 'b', 'c', 'd'].map((name) => startWriter(app.url, name))
  await writers[0]!.more(500)
  const killedAt = await loseMachine(scratch, app)
  for (const writer of writers) await writer.stop()
  const into = await restoreFromBucket(scratch, env, 'restored')
  bucket.close()
  let words = ''
  await onRestored(scratch, into, async (other) => {
    words = `machine: ${lostOnlyTheLast(writers, await idsIn(other), killedAt)}`
  })
  return words
}

/** The primary is lost with its disk; its synchronous standby goes on, and later the bucket has all that was ever acknowledged. */
async function losePrimary(scratch: Scratch, s3: TestS3): Promise<string> {
  const { env, bucket } = bucketFolder(s3, 'standby')
  const fleet = scratch.launch({ up: '10k', env: { ...env, RUNG_REPLICAS: '1' } })
  const facts = await fleet.started
  await copiedBases(bucket, 1)
  await until(async () => (await readPrimacy(scratch.dataDir)).synchronous.length === 1, 'commits wait for the replica')
  const writers = startWriters([facts])
  await until(() => writers.acknowledged.length >= 300, 'entries are acknowledged')
  const { primary } = await readPrimacy(scratch.dataDir)
  const { data } = memberFiles(scratch.dataDir, primary)
  await killAllIn(data)
  await until(async () => (await readPrimacy(scratch.dataDir)).primary !== primary, 'the standby is promoted')
  await writers.writtenAgain()
  const { lost } = await writers.end()
  await until(async () => (await readPrimacy(scratch.dataDir)).synchronous.length === 1, 'the former primary follows')
  assert.deepEqual(lost, [], 'the standby has all')
  await copied(scratch, bucket, path.join(scratch.dataDir, (await readPrimacy(scratch.dataDir)).primary))
  await fleet.stop()
  await rm(scratch.dataDir, { recursive: true })
  const into = await restoreFromBucket(scratch, env, 'restored')
  bucket.close()
  const there = new Set<string>()
  await onRestored(scratch, into, async (other) => {
    for (const id of await idsIn(other)) there.add(id)
  })
  const missing = writers.acknowledged.filter((id) => !there.has(id))
  assert.deepEqual(missing, [], 'the bucket has all')
  return `primary with a synchronous standby: 0 of ${writers.acknowledged.length} acknowledged writes lost`
}
