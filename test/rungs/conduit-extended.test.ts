import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { after, before, describe, it } from 'node:test'
import conduit from '../../examples/conduit/app.ts'
import { reindex } from '../../examples/conduit/articles/reindex.ts'
import { sweep } from '../../examples/conduit/avatars/uploads.ts'
import { removeEnded } from '../../examples/conduit/exports/exports.ts'
import { findDigests, sendDigest } from '../../examples/conduit/notifications/digest.ts'
import { type Client, connectOnce } from '../../src/engines/postgres/client.ts'
import type { Running } from '../../src/runtime/boot.ts'
import { bootForTest } from '../support/app.ts'
import { type TestPostgres, testPostgres } from '../support/postgres.ts'
import { avatarTests } from './conduit-avatars.ts'
import { articlePath, conduitClient } from './conduit-client.ts'
import { eventTests } from './conduit-events.ts'
import { exportTests } from './conduit-exports.ts'
import { type Beside, conduitExtended, storedFiles } from './conduit-extended.ts'
import { notificationTests } from './conduit-notifications.ts'
import { reindexTests } from './conduit-reindex.ts'
import { type Recording, recordRequests, replayTests } from './conduit-replayed.ts'
import { viewTests } from './conduit-views.ts'

describe('rung 1k', () => {
  let postgres: TestPostgres
  let running: Running
  let other: Running
  let client: Client
  let dataDir: string
  let recording: Recording
  before(async () => {
    dataDir = await mkdtemp(path.join(tmpdir(), 'rung-test-'))
    postgres = await testPostgres()
    running = await bootForTest(conduit, postgres, { dataDir })
    // A second one on the same database: what is to happen once happens once between them.
    const settings = { DATABASE_URL: running.server.connection.url! }
    other = await bootForTest(conduit, postgres, { dataDir }, [], settings)
    client = await connectOnce(running.server.connection)
    recording = recordRequests(target)
  })
  after(async () => {
    recording?.stop()
    await client?.end()
    await running?.stop()
    await other?.stop()
    await postgres?.stop()
    await rm(dataDir, { recursive: true, force: true })
  })
  const jobs = { digests: findDigests, exports: removeEnded, avatars: sweep, reindex }
  const beside: Beside = {
    query: async (text, values = []) => (await client.query(text, [...values])).rows,
    tick: (job) => running.data.forModule(undefined).write((tx) => void tx.enqueue(jobs[job], {})),
    sendDigestAgain: (input) => running.data.forModule(undefined).write((tx) => void tx.enqueue(sendDigest, input)),
    filesOf: (module) => storedFiles(dataDir, module),
  }
  const target = () => ({ baseUrl: running.url })
  conduitExtended(target, beside, [notificationTests, exportTests, avatarTests, viewTests, eventTests, reindexTests])
  replayTests(target, () => recording, beside)

  it('stops without a loss of views', async () => {
    const api = conduitClient(target)
    const { slug } = await api.article(await api.person())
    for (let n = 0; n < 7; n += 1) await api.post(`${articlePath(slug)}/views`)
    await running.stop()
    // In one statement: the other process is at work on them.
    const { rows } = await client.query<{ n: number }>(
      `select coalesce((
          select sum((view->>1)::int) from (
            select json_array_elements(payload->'views') as view from rung.job where name = 'articles.viewed'
          ) waiting where (view->>0)::bigint = article.id
        ), 0)::int + coalesce((select sum(n) from articles.view_day where article_id = article.id), 0)::int as n
      from articles.article where slug = $1`,
      [slug],
    )
    assert.deepEqual(rows, [{ n: 7 }])
  })
})
