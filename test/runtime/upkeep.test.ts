import assert from 'node:assert/strict'
import { after, before, it } from 'node:test'
import { connectOnce } from '../../src/engines/postgres/client.ts'
import { tableLease } from '../../src/primitives/upkeep/table.ts'
import { startUpkeep } from '../../src/primitives/upkeep/upkeep.ts'
import { openStores } from '../../src/runtime/stores.ts'
import { pruneAll, upkeepOf } from '../../src/runtime/upkeep.ts'
import { openSystemTables } from '../support/data.ts'
import { type TestPostgres, testPostgres } from '../support/postgres.ts'

let postgres: TestPostgres
before(async () => {
  postgres = await testPostgres()
})
after(() => postgres.stop())

it('removes all that is old in one run, however much it is', async () => {
  const { database, connection } = await openSystemTables(postgres)
  const client = await connectOnce(connection)
  await client.query(`insert into rung.foreign_claim (source, item, pushed_at, token, at)
    select gen_random_uuid()::text, n, now(), 1, now() - interval '30 days' from generate_series(1, 10500) n`)
  await client.query(`insert into rung.invalidation (tags, at)
    select array['a'], now() - interval '30 days' from generate_series(1, 10500)`)
  const store = openStores([{ database }], { extend: () => ({}) as never }).main
  const { signal } = new AbortController()
  for (const { run } of upkeepOf(store, () => {})) await run(signal)
  for (const table of ['foreign_claim', 'invalidation'])
    assert.deepEqual((await client.query(`select from rung.${table}`)).rows.length, 0, table)
  await client.end()
  await database.close()
})

it('ends between two batches when it is to stop', async () => {
  const stop = new AbortController()
  let batches = 0
  await pruneAll(async (max) => {
    batches += 1
    if (batches === 2) stop.abort()
    return batches === 5 ? 0 : max
  }, stop.signal)
  assert.equal(batches, 2)
})

it('tells a task in hand that the process stops', async () => {
  const { database } = await openSystemTables(postgres)
  const begun = Promise.withResolvers<void>()
  const run = (stop: AbortSignal) =>
    new Promise<void>((resolve) => {
      stop.addEventListener('abort', () => resolve())
      begun.resolve()
    })
  const failed = (error: unknown) => begun.reject(error)
  const tasks = [{ name: 'long', everyMs: 0, run }]
  const end = startUpkeep({ lease: tableLease(database, 'long'), holder: 'a', tasks, failed })
  await begun.promise
  await end()
  await database.close()
})
