import assert from 'node:assert/strict'
import { after, afterEach, before, it } from 'node:test'
import { type FaultProxy, openProxy } from '../../../src/chaos/proxy.ts'
import { machineTime, useTimeSource } from '../../../src/kernel/clock.ts'
import { isRungError } from '../../../src/kernel/errors.ts'
import { migrate } from '../../../src/migrations/migrate.ts'
import { ownAnswerMs, runAlone } from '../../../src/primitives/data/alone.ts'
import type { Database } from '../../../src/primitives/data/contract.ts'
import { sql } from '../../../src/primitives/data/sql.ts'
import { tableQueue } from '../../../src/primitives/jobs/table.ts'
import { systemMigrations } from '../../../src/runtime/migrations.ts'
import { openPostgres } from '../../support/data.ts'
import { type TestPostgres, testPostgres } from '../../support/postgres.ts'
import { until } from '../../support/process.ts'

let postgres: TestPostgres
let proxy: FaultProxy
let database: Database
before(async () => {
  postgres = await testPostgres()
  const connection = await postgres.createDatabase()
  await migrate({ connection, migrations: systemMigrations })
  proxy = await openProxy({ path: `${connection.host}/.s.PGSQL.${connection.port ?? 5432}` })
  database = await openPostgres(postgres, { connection: { ...connection, host: '127.0.0.1', port: proxy.port } })
})
afterEach(() => useTimeSource(machineTime))
after(async () => {
  await database?.close()
  proxy?.close()
  await postgres.stop()
})

it("discards own connections on which the server has gone silent, and Rung's own work goes on", async () => {
  const due: (() => void)[] = []
  useTimeSource({
    ticks: machineTime.ticks,
    startTimer(ms, fn, options) {
      if (ms !== ownAnswerMs) return machineTime.startTimer(ms, fn, options)
      due.push(fn)
      return () => {}
    },
  })
  const queue = tableQueue(database)
  const ask = () => runAlone<{ one: number }>(database, sql`select 1 as one`)
  const claim = () => queue.claim([{ queue: 'a', n: 1, ordered: false } as never], 'w', 1_000)
  await Promise.all([ask(), ask(), claim()])
  due.length = 0
  proxy.set({ blackHole: true })
  const calls = Promise.allSettled([ask(), ask(), claim()])
  await until(() => due.length === 3, 'all three connections wait for an answer')
  for (const end of due) end()
  for (const call of await calls) assert.ok(call.status === 'rejected' && isRungError(call.reason, 'DATA_UNAVAILABLE'))
  assert.equal(database.counts('own').total, 0)
  proxy.heal()
  assert.deepEqual(await ask(), [{ one: 1 }])
})
