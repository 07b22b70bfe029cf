import assert from 'node:assert/strict'
import { after, before, it } from 'node:test'
import { readSeen } from '../../src/observe/seen.ts'
import { keepSightings } from '../../src/observe/sightings.ts'
import type { Database } from '../../src/primitives/data/contract.ts'
import { openSystemTables } from '../support/data.ts'
import { type TestPostgres, testPostgres } from '../support/postgres.ts'

let postgres: TestPostgres
let database: Database
before(async () => {
  postgres = await testPostgres()
  ;({ database } = await openSystemTables(postgres))
})
after(async () => {
  await database?.close()
  await postgres.stop()
})

it('keeps what was seen, whatever its texts contain, in a report that stays small', async () => {
  let close = async () => {}
  const http = {
    addHook(_name: string, hook: () => Promise<void>) {
      close = hook
    },
  }
  const failures: unknown[] = []
  const sightings = keepSightings(http as never, database, (error) => failures.push(error))
  const slow = { durationMs: 200, rowCount: 1, name: 'GET /\0', module: 'm', lockTimeout: false }
  sightings.slow({ ...slow, statement: `select '\ud800\0'`, plan: 'Result\0\udc00' })
  sightings.slow({ ...slow, statement: `select '${'long '.repeat(1_000_000)}'`, plan: 'x'.repeat(5_000_000) })
  await close()
  assert.deepEqual(failures, [])
  const seen = await readSeen(database)
  assert.ok(seen.some(({ statement, plan }) => statement === `select '\ufffd'` && plan === 'Result\ufffd'))
  assert.equal(seen.length, 2)
  assert.ok(JSON.stringify(seen).length < 20_000)
})
