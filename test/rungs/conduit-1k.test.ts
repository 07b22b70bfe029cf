import { after, before, describe } from 'node:test'
import conduit from '../../examples/conduit/app.ts'
import type { Running } from '../../src/runtime/boot.ts'
import { bootForTest } from '../support/app.ts'
import { type TestPostgres, testPostgres } from '../support/postgres.ts'
import { conduitProperties } from './conduit-properties.ts'
import { conduitSuite } from './conduit-suite.ts'

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
  const target = () => ({ baseUrl: running.url })
  conduitSuite(target)
  conduitProperties(target)
})
