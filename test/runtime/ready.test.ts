import assert from 'node:assert/strict'
import { after, before, it } from 'node:test'
import { defineApp } from 'rung'
import type { Database } from '../../src/primitives/data/contract.ts'
import { openDatabase } from '../../src/runtime/wire.ts'
import { bootForTest } from '../support/app.ts'
import { type TestPostgres, testPostgres } from '../support/postgres.ts'
import { until } from '../support/process.ts'

let postgres: TestPostgres
before(async () => {
  postgres = await testPostgres()
})
after(() => postgres.stop())

it("is not ready while Rung's own connections are silent, although those of requests answer", async () => {
  let silent = false
  const open: typeof openDatabase = (...how) => {
    const database = openDatabase(...how)
    const connect: Database['connect'] = async (need) => {
      const connection = await database.connect(need)
      if (need.target !== 'own' || !silent) return connection
      return { ...connection, inTransaction: false, run: () => new Promise(() => {}) }
    }
    return { ...database, connect }
  }
  const running = await bootForTest(
    defineApp({ name: 'ready', modules: [] }),
    postgres,
    {},
    [],
    {},
    { openDatabase: open },
  )
  const status = async () => (await fetch(`${running.url}/readyz`)).status
  try {
    assert.equal(await status(), 200)
    silent = true
    assert.equal(await status(), 503)
    silent = false
    await until(async () => (await status()) === 200, 'the connections were replaced')
  } finally {
    silent = false
    await running.stop()
  }
})
