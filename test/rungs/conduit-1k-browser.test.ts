import { after, before, describe } from 'node:test'
import conduit from '../../examples/conduit/app.ts'
import type { Running } from '../../src/runtime/boot.ts'
import { bootForTest } from '../support/app.ts'
import { type TestPostgres, testPostgres } from '../support/postgres.ts'
import { browserTests } from './conduit-browser.ts'

describe('rung 1k', () => {
  let postgres: TestPostgres
  let running: Running
  before(async () => {
    postgres = await testPostgres()
    running = await bootForTest(conduit, postgres)
  })
  after(async () => {
    await running?.stop()
    await postgres?.stop()
  })
  browserTests(() => ({ baseUrl: running.url }))
})
