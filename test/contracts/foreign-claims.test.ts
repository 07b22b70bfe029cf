import assert from 'node:assert/strict'
import { randomInt } from 'node:crypto'
import { after, before, describe, it } from 'node:test'
import type { Database } from '../../src/primitives/data/contract.ts'
import { createData, type Data } from '../../src/primitives/data/data.ts'
import { sqlState } from '../../src/primitives/data/errors.ts'
import { expectationFailed } from '../../src/primitives/data/rides.ts'
import type { ForeignClaims, ForeignItem } from '../../src/primitives/jobs/contract.ts'
import { tableForeignClaims } from '../../src/primitives/jobs/foreign-table.ts'
import { openSystemTables } from '../support/data.ts'
import { type TestPostgres, testPostgres } from '../support/postgres.ts'
import { until } from '../support/process.ts'

describe('foreign claims contract: foreign-table', () => {
  let postgres: TestPostgres
  let database: Database
  let claims: ForeignClaims
  let data: Data
  before(async () => {
    postgres = await testPostgres()
    ;({ database } = await openSystemTables(postgres))
    claims = tableForeignClaims(database)
    data = createData(database).forModule('m')
  })
  after(async () => {
    await database.close()
    await postgres.stop()
  })

  const item = (changes: Partial<ForeignItem> = {}): ForeignItem => ({
    source: 'other',
    id: randomInt(2 ** 40),
    token: 1,
    pushedAt: '2026-01-02 03:04:05.678901+00',
    ...changes,
  })
  const commit = (one: ForeignItem, done = false) => data.write((tx) => tx`${claims.fence(one, done)}`)
  const isRefused = (error: unknown) => sqlState(error) === expectationFailed

  it('let the last claim commit, as often as it likes, until the item is done', async () => {
    const one = item()
    assert.equal(await claims.begin(one), 'open')
    await commit(one)
    await commit(one)
    await commit(one, true)
    await assert.rejects(commit(one), isRefused)
    await assert.rejects(commit(one, true), isRefused)
  })

  it('let nothing of an earlier claim commit once a later one has begun, also if the earlier one begins again', async () => {
    const early = item()
    assert.equal(await claims.begin(early), 'open')
    const second = { ...early, token: 2 }
    assert.equal(await claims.begin(second), 'open')
    await assert.rejects(commit(early), isRefused)
    assert.equal(await claims.begin(early), 'later')
    await assert.rejects(commit(early), isRefused)
    await commit(second, true)
  })

  it('tell a later claim that the item is done', async () => {
    const one = item()
    await claims.begin(one)
    await commit(one, true)
    assert.equal(await claims.begin({ ...one, token: 2 }), 'done')
  })

  it('are not done if the commit was not', async () => {
    const one = item()
    await claims.begin(one)
    await assert.rejects(
      data.write(async (tx) => {
        await tx`${claims.fence(one, true)}`
        throw new Error('rolled back')
      }),
      /rolled back/,
    )
    assert.equal(await claims.begin({ ...one, token: 2 }), 'open')
  })

  it('refuse a claim that was never begun here', async () => {
    await assert.rejects(commit(item()), isRefused)
  })

  it('know items of two databases apart, and those that have one number because a database was restored', async () => {
    const one = item()
    await claims.begin(one)
    await commit(one, true)
    assert.equal(await claims.begin({ ...one, source: 'a third' }), 'open')
    assert.equal(await claims.begin({ ...one, pushedAt: '2026-01-02 03:04:05.678902+00' }), 'open')
    assert.equal(await claims.begin({ ...one, pushedAt: '2026-01-02 04:04:05.678901+01' }), 'done') // the same moment
  })

  it('are forgotten when they are old', async () => {
    const one = item()
    await claims.begin(one)
    await commit(one, true)
    assert.equal(await claims.prune(3_600_000, 10), 0)
    await until(async () => (await claims.prune(1, 10)) > 0, 'they are old')
    assert.equal(await claims.begin(one), 'open')
  })
})
