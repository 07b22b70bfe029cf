import assert from 'node:assert/strict'
import { it } from 'node:test'
import { parseLsn } from '../../../src/kernel/position.ts'
import { Scope } from '../../../src/kernel/scope.ts'
import type { InvalidationLog } from '../../../src/primitives/cache/contract.ts'
import { Follower, type FollowerOptions } from '../../../src/primitives/cache/follower.ts'
import { tableLog } from '../../../src/primitives/cache/table.ts'
import { runAlone } from '../../../src/primitives/data/alone.ts'
import { sql } from '../../../src/primitives/data/sql.ts'
import { openSystemTables } from '../../support/data.ts'
import { testPostgres } from '../../support/postgres.ts'
import { until } from '../../support/process.ts'

const quiet: Omit<FollowerOptions, 'log'> = {
  signals: { send() {}, listen() {}, async close() {} },
  database: 'main',
  apply() {},
  begun() {},
  lost: () => assert.fail(),
  onMark() {},
  failed: () => assert.fail(),
}

/** Many more than a session causes in the time between two looks that nobody causes. */
const looksMax = 2_000

it('a log that stands still at the place of a session is stirred, until the session needs no look; otherwise never', async () => {
  let [end, stirs] = [10n, 0]
  const log: InvalidationLog = {
    append: () => assert.fail('nobody writes'),
    async since(_mark, stir) {
      const at = end
      if (stir) {
        stirs += 1
        end += 1n
      }
      return { rows: [], mark: String(at), at, isWhole: true }
    },
    shows: () => undefined,
    trim: async () => 0,
  }
  let looks = 0
  const onMark = () => {
    looks += 1
  }
  const follower = new Follower({ ...quiet, log, onMark })
  await follower.start()
  try {
    const behind = (place: bigint) => {
      const scope = new Scope('request', 'test', 'test')
      scope.position = new Map([['main', place]])
      return follower.ensure(scope)
    }
    for (let turn = 0; turn < 5; turn += 1) assert.notEqual(await behind(10n), null)
    assert.equal(behind(9n), undefined)
    await until(() => {
      assert.ok(looks < looksMax)
      return behind(10n) === undefined
    }, 'a session at the end needs no look')
    assert.ok(stirs >= 1)
    const before = { stirs, looks }
    await until(() => looks > before.looks + 2, 'the log was read again')
    assert.equal(stirs, before.stirs)
  } finally {
    await follower.stop()
  }
})

it('a place is settled a minute after the log was read beyond it, and none before', async () => {
  let [end, now] = [10n, 0]
  const log: InvalidationLog = {
    append: () => assert.fail('nobody writes'),
    since: async () => ({ rows: [], mark: '', at: end, isWhole: true }),
    shows: () => undefined,
    trim: async () => 0,
  }
  const follower = new Follower({ ...quiet, log, clock: { now: () => now, ticks: () => now } })
  const settled = () => [9n, 10n, 11n, 12n].filter((place) => follower.isSettled(place))
  for (const [at, place, expected] of [
    [0, 10n, []],
    [59_999, 11n, []],
    [60_000, 12n, [9n]],
    [119_999, 13n, [9n]],
    [120_000, 14n, [9n, 10n, 11n]],
  ] as const) {
    ;[now, end] = [at, place]
    await follower.look()
    assert.deepEqual(settled(), expected, `at ${at} ms`)
  }
})

it('stirring writes to the log of the database', async () => {
  const postgres = await testPostgres()
  const { database } = await openSystemTables(postgres)
  try {
    const log = tableLog(database)
    const { mark } = await log.since(undefined)
    const end = async () => {
      const [row] = await runAlone<{ at: string }>(database, sql`select pg_current_wal_insert_lsn()::text as at`)
      return parseLsn(row!.at)!
    }
    const before = await end()
    const { rows, at, isWhole } = await log.since(mark, true)
    assert.deepEqual({ rows, isWhole }, { rows: [], isWhole: true })
    assert.ok((await end()) > before)
    await until(async () => (await log.since(mark)).at! > at!, 'it is written out')
  } finally {
    await database.close()
    await postgres.stop()
  }
})
