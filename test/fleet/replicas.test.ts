import assert from 'node:assert/strict'
import { readdir, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { after, before, describe, it } from 'node:test'
import { memberFiles } from '../../src/engines/postgres/members.ts'
import { socketDirFor } from '../../src/engines/postgres/recipe.ts'
import { noNginx } from '../support/nginx.ts'
import { ended, openScratch, processesOn, type RungProcess, type Scratch, sameExit, until } from '../support/process.ts'
import { noRedis } from '../support/redis.ts'
import { askOne } from '../support/standby.ts'

const skip = noRedis || noNginx

/** A fleet with replicas, and no more than that. */
const env = { RUNG_POOLER: 'off', RUNG_BALANCER: 'off', RUNG_EDGE: 'off', RUNG_WEB: '1', RUNG_WORKER: '0' }

describe('the replicas of rung up', { skip }, () => {
  let scratch: Scratch & { end(): Promise<void> }
  before(async () => {
    scratch = await openScratch()
  })
  after(() => scratch.end())

  const admin = (socketDir: string) => ({ host: socketDir, port: 5432, user: 'rung', database: 'app' })
  const primary = () => admin(socketDirFor(scratch.dataDir, tmpdir()))
  const replica = (name: string) => admin(memberFiles(scratch.dataDir, name).socketDir)
  const pidOf = ({ parts }: RungProcess, name: string) => parts!.find((part) => part.name === name)!.pid
  const slots = `select string_agg(slot_name, ',' order by slot_name) from pg_replication_slots`

  async function shows(name: string, count: number): Promise<void> {
    const there = () => askOne(replica(name), `select (select count(*) from seen) = ${count}`).catch(() => false)
    await until(there as () => Promise<boolean>, `${name} shows ${count} rows`)
  }

  it('copy, follow, come back after kill -9, and end with the fleet', async () => {
    const up = await scratch.start({ up: '100k', env })
    await askOne(primary(), 'create table seen as select 1 as id')
    await shows('postgres-2', 1)
    await shows('postgres-3', 1)
    process.kill(pidOf(up, 'postgres-2'), 'SIGKILL')
    await askOne(primary(), 'insert into seen values (2)')
    await shows('postgres-2', 2)
    await up.saw(/postgres-2 .*; restarting it/)
    sameExit(await up.stop(), 0)
    assert.deepEqual(await processesOn(scratch.dataDir), [])
    for (const name of ['', 'postgres-2', 'postgres-3']) {
      const { socketDir } = name === '' ? { socketDir: primary().host } : memberFiles(scratch.dataDir, name)
      assert.deepEqual(await readdir(socketDir), [])
    }
  })

  it('use their copies again, and lose their slots when they are no longer wanted', async () => {
    const copied = () => stat(path.join(scratch.dataDir, 'postgres-2', 'copied.json')).then(({ mtimeMs }) => mtimeMs)
    const before = await copied()
    const up = await scratch.start({ up: '100k', env, args: ['--replicas', '1'] })
    assert.equal(await copied(), before)
    await shows('postgres-2', 2)
    assert.equal(await askOne(primary(), slots), 'rung_postgres_2')
    await up.kill() // the watchdogs end everything
    for (const name of ['postgres', 'postgres-2']) await ended(pidOf(up, name))
  })
})
