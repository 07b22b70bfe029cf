import { after, before, describe } from 'node:test'
import conduit from '../../examples/conduit/app.ts'
import { sweep } from '../../examples/conduit/avatars/uploads.ts'
import { removeEnded } from '../../examples/conduit/exports/exports.ts'
import { type Client, connectOnce } from '../../src/engines/postgres/client.ts'
import { S3Client } from '../../src/engines/s3/client.ts'
import type { Running } from '../../src/runtime/boot.ts'
import { bootForTest } from '../support/app.ts'
import { type TestPostgres, testPostgres } from '../support/postgres.ts'
import { noS3, s3AddressOf, type TestS3, testS3 } from '../support/s3.ts'
import { avatarTests } from './conduit-avatars.ts'
import { exportTests } from './conduit-exports.ts'
import { type Beside, conduitExtended } from './conduit-extended.ts'

/** The same code with its files in a bucket: what one process stores, another one without its data directory works on. */
describe('conduit with an S3 store', { skip: noS3 }, () => {
  let s3: TestS3
  let bucket: S3Client
  let postgres: TestPostgres
  let running: Running
  let other: Running
  let client: Client
  before(async () => {
    s3 = await testS3()
    const url = await s3.bucket('conduit')
    bucket = new S3Client(s3AddressOf(url))
    postgres = await testPostgres()
    running = await bootForTest(conduit, postgres, {}, [], { RUNG_S3_URL: url, RUNG_WEB: '2' })
    const shared = { RUNG_S3_URL: url, RUNG_WEB: '2', DATABASE_URL: running.server.connection.url! }
    other = await bootForTest(conduit, postgres, {}, [], shared)
    client = await connectOnce(running.server.connection)
  })
  after(async () => {
    await client?.end()
    await running?.stop()
    await other?.stop()
    await postgres?.stop()
    bucket?.close()
    await s3?.stop()
  })
  const jobs = { exports: removeEnded, avatars: sweep }
  const beside: Beside = {
    query: async (text, values = []) => (await client.query(text, [...values])).rows,
    tick: (job) => running.data.forModule(undefined).write((tx) => void tx.enqueue(jobs[job as 'avatars'], {})),
    sendDigestAgain: async () => {},
    async filesOf(module) {
      const { text } = await bucket.ask({ method: 'GET', query: { 'list-type': '2', prefix: `${module}/` } })
      return text.match(/<Key>[^<]*/g) ?? []
    },
  }
  conduitExtended(() => ({ baseUrl: running.url }), beside, [exportTests, avatarTests])
})
