import assert from 'node:assert/strict'
import { rm, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { describe, it } from 'node:test'
import { readPrimacy } from '../../src/engines/postgres/members.ts'
import { killAllIn } from '../../src/engines/process/processes-in.ts'
import {
  archived,
  backupDirOf,
  bases,
  catalogueOf,
  done,
  launch,
  lostOnlyTheLast,
  onRestored,
  startWriter,
} from '../support/backups.ts'
import { idsIn, post, write } from '../support/ledger.ts'
import { noNginx } from '../support/nginx.ts'
import { ended, type Launched, processesOn, type Scratch, sameExit, until, withScratch } from '../support/process.ts'
import { noRedis } from '../support/redis.ts'

interface Part {
  name: string
  state: string
  pid: number
  restarts: number
  address: string
}

function up(scratch: Scratch, env: Record<string, string> = {}): Launched {
  return scratch.launch({ up: '10k', env: { RUNG_BACKUP_DIR: backupDirOf(scratch), ...env } })
}

async function partOf(scratch: Scratch, name: string): Promise<Part> {
  const { parts } = (await done(scratch, ['ps'])) as { parts: Part[] }
  return parts.find((part) => part.name === name)!
}

describe('rung up 10k with a backup directory', { skip: noRedis || noNginx }, () => {
  it('loses at most what was written last, whoever was killed before', (t) =>
    withScratch(async (scratch) => {
      const fleet = up(scratch)
      const facts = await fleet.started
      await bases(scratch, 1)
      const writers = ['a', 'b'].map((name) => startWriter(facts.url, name))
      await writers[0]!.more(20)

      const first = await partOf(scratch, 'archiver')
      process.kill(first.pid, 'SIGKILL')
      const second = await until(async () => {
        const now = await partOf(scratch, 'archiver')
        return now.state === 'running' && now.restarts === 1 && now
      }, 'the archiver is back')
      assert.notEqual(second.pid, first.pid)
      await writers[0]!.more(20)
      await archived(scratch)
      const metrics = await (await fetch(`http://${second.address}/metrics`)).text()
      assert.match(metrics, /backup_archived_timestamp_seconds [1-9]/)
      assert.match(metrics, /backup_failures_total 0/)
      // Longer than the loss that is allowed: else there were nothing to lose.
      const began = performance.now()
      await until(() => performance.now() - began > 2_000, 'two seconds of writes')

      const pids = facts.parts!.map(({ name, pid }) => (name === 'archiver' ? second.pid : pid))
      for (const pid of pids) process.kill(pid, 'SIGKILL')
      const killed = fleet.kill()
      const killedAt = performance.now()
      await killed
      for (const pid of pids) await ended(pid)
      for (const writer of writers) await writer.stop()
      await rm(scratch.dataDir, { recursive: true })

      assert.equal((await catalogueOf(scratch))!.bases.length, 1, 'there is no gap that needed another one')
      const into = path.join(scratch.dir, 'restored')
      await done(scratch, ['restore', '--to', 'latest', '--into', into])
      await onRestored(scratch, into, async (other) =>
        t.diagnostic(lostOnlyTheLast(writers, await idsIn(other), killedAt)),
      )
    }))

  it('archives what is written until its stop, and what it made stands a drill', () =>
    withScratch(async (scratch) => {
      let fleet = up(scratch)
      let facts = await fleet.started
      await bases(scratch, 1)
      await write(facts, 'one')
      const { drill, faults } = await done(scratch, ['backup', 'verify', '--drill'], { RUNG_TOPOLOGY: '10k' })
      assert.deepEqual([drill.equal, faults], [true, []])
      process.kill((await partOf(scratch, 'postgres')).pid, 'SIGKILL')
      await until(async () => (await partOf(scratch, 'postgres')).restarts === 1, 'Postgres is back')
      await until(async () => (await post(facts, 'two')) === '201', 'writes are taken again')
      await archived(scratch)
      assert.equal((await partOf(scratch, 'archiver')).restarts, 0, 'it follows the new one')
      await write(facts, 'at the end')
      sameExit(await fleet.stop(), 0)

      const into = path.join(scratch.dir, 'restored')
      await done(scratch, ['restore', '--to', 'latest', '--into', into])
      await onRestored(scratch, into, async (other) =>
        assert.deepEqual(await idsIn(other), ['at the end', 'one', 'two']),
      )
      const shown = launch(scratch, ['topology', '10k'])
      await shown.exited
      assert.match(shown.stdout(), /^archiver +1 +archives the log of Postgres to \//m)

      fleet = up(scratch)
      facts = await fleet.started
      await write(facts, 'again')
      await archived(scratch)
      assert.equal((await catalogueOf(scratch))!.bases.length, 1, 'the archive went on where it stopped')
      sameExit(await fleet.stop(), 0)
    }))

  it('goes on through a failover, and restores to a time on either side of it', () =>
    withScratch(async (scratch) => {
      const fleet = up(scratch, { RUNG_REPLICAS: '1' })
      const facts = await fleet.started
      await bases(scratch, 1)
      await write(facts, 'before')
      const before = await archived(scratch)
      await write(facts, 'between')
      await until(
        async () => (await readPrimacy(scratch.dataDir)).synchronous.length === 1,
        'commits wait for the replica',
      )
      await killAllIn(path.join(scratch.dataDir, 'postgres'))
      await until(async () => (await readPrimacy(scratch.dataDir)).primary === 'postgres-2', 'the replica is promoted')
      await until(async () => (await post(facts, 'after')) === '201', 'writes are taken again')
      await archived(scratch, path.join(scratch.dataDir, 'postgres-2'))
      sameExit(await fleet.stop(), 0)

      const restoredTo = async (time: string, into: string) => {
        await done(scratch, ['restore', '--to', time, '--into', path.join(scratch.dir, into)])
        let found: string[] = []
        await onRestored(scratch, path.join(scratch.dir, into), async (app) => {
          found = await idsIn(app)
        })
        return found.toSorted()
      }
      assert.deepEqual(await restoredTo(new Date(before).toISOString(), 'earlier'), ['before'])
      assert.deepEqual(await restoredTo('latest', 'later'), ['after', 'before', 'between'])
    }))

  it('says what is wrong with the directory, and starts nothing', () =>
    withScratch(async (scratch) => {
      const file = path.join(scratch.dir, 'file')
      await writeFile(file, '')
      const failed = await scratch.startFails({ up: '10k', env: { RUNG_BACKUP_DIR: `${file}/backups` } })
      sameExit(failed, 1)
      assert.equal(failed.error?.code, 'BACKUP_FAILED', failed.stdout)
      assert.match(failed.error.message, /cannot be written .* set RUNG_BACKUP_DIR to another one\.$/)
      await until(async () => (await processesOn(scratch.dataDir)).length === 0, 'nothing runs on the folder')
    }))
})
