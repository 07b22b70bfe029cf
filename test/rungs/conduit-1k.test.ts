import { after, before, describe } from 'node:test'
import conduit from '../../examples/conduit/app.ts'
import { type Client, connectOnce } from '../../src/engines/postgres/client.ts'
import type { Running } from '../../src/runtime/boot.ts'
import { bootForTest } from '../support/app.ts'
import { type TestPostgres, testPostgres } from '../support/postgres.ts'
import { badInput } from './bad-input.ts'
import { conduitProperties } from './conduit-properties.ts'
import { type Recording, recordRequests, replayTests } from './conduit-replayed.ts'
import { conduitSuite } from './conduit-suite.ts'

describe('rung 1k', () => {
  let postgres: TestPostgres
  let running: Running
  /** The same app with limits that a test can wait for. */
  let hurried: Running
  let client: Client
  let recording: Recording
  before(async () => {
    postgres = await testPostgres()
    running = await bootForTest(conduit, postgres)
    client = await connectOnce(running.server.connection)
    recording = recordRequests(target)
    const http = { ...conduit.http, headersTimeout: '1s', requestTimeout: '3s' } as const
    hurried = await bootForTest({ ...conduit, http }, postgres)
  })
  after(async () => {
    recording?.stop()
    await client?.end()
    await running?.stop()
    await hurried?.stop()
    await postgres?.stop()
  })
  const target = () => ({ baseUrl: running.url })
  conduitSuite(target)
  replayTests(target, () => recording, {
    query: async (text, values = []) => (await client.query(text, [...values])).rows,
  })
  conduitProperties(target)
  badInput(() => {
    const { hostname, port } = new URL(hurried.url)
    return { host: hostname, port: Number(port), headersTimeoutMs: 1_000, requestTimeoutMs: 3_000 }
  })
})
