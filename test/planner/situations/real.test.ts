import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { defineApp, defineModule } from 'rung'
import conduit from '../../../examples/conduit/app.ts'
import type { App } from '../../../src/app/define-app.ts'
import { evidenceOf } from '../../../src/cli/evidence-from-record.ts'
import { readRecorded } from '../../../src/cli/recorded.ts'
import { examine } from '../../../src/doctor/examine.ts'
import { type ConnectionConfig, connectOnce } from '../../../src/engines/postgres/client.ts'
import { observe } from '../../../src/observe/observe.ts'
import { readSightings } from '../../../src/observe/sighting-table.ts'
import { type Advice, advise } from '../../../src/planner/advisor.ts'
import { rungs } from '../../../src/topology/catalog.ts'
import { bootForTest } from '../../support/app.ts'
import shop from '../../support/apps/shop/app.ts'
import { openPostgres } from '../../support/data.ts'
import { ownPostgres, type TestPostgres, urlOf } from '../../support/postgres.ts'

let postgres: TestPostgres
before(async () => {
  postgres = await ownPostgres()
})
after(() => postgres.stop())

interface Made {
  app: App
  /** Prepares the database after the app's migrations. */
  prepare?(run: (text: string) => Promise<unknown>): Promise<void>
  /** What comes: paths, each so often, so many at a time. */
  load: readonly { path: string; times: number; concurrency?: number }[]
  settings?: Record<string, string>
}

/** Runs a real app on a real database under its recorder, and judges what was recorded and what the doctor finds. */
async function adviceFor({ app, prepare, load, settings = {} }: Made): Promise<Advice> {
  const connection = await postgres.createDatabase()
  const admin: ConnectionConfig = { ...postgres.admin, database: connection.database! }
  const root = await connectOnce(admin)
  await root.query('create extension pg_stat_statements')
  const running = await bootForTest(app, postgres, {}, [observe()], {
    ...{ DATABASE_URL: urlOf(connection), RUNG_RECORD: 'on' },
    ...settings,
  })
  try {
    if (prepare) await prepare((text) => root.query(text))
    for (const { path, times, concurrency = 1 } of load) {
      const get = async () => {
        const response = await fetch(`${running.url}${path}`)
        await response.arrayBuffer()
        assert.ok(response.status < 400, `${path}: ${response.status}`)
      }
      let left = times
      await Promise.all(
        Array.from({ length: concurrency }, async () => {
          for (; left > 0; ) {
            left -= 1
            await get()
          }
        }),
      )
    }
  } finally {
    await running.stop() // writes what was seen, and the last frame
  }
  const database = await openPostgres(postgres, { connection })
  try {
    const { findings } = await examine(admin, { seen: await readSightings(database) })
    const recorded = await readRecorded(database, Date.now() + 1)
    assert.ok(recorded && recorded.hours.length > 0)
    return advise(
      evidenceOf(recorded, {
        ...{ topology: rungs['1k'], cores: 2, spread: false, objective: { p95Ms: 200, failing: 0.01 } },
        doctor: findings,
      }),
    )
  } finally {
    await database.close()
    await root.end()
  }
}

const nowOf = ({ findings }: Advice) => findings.filter(({ verdict }) => verdict === 'now')
const told = ({ findings }: Advice) =>
  findings.map(({ verdict, kind, what, seen }) => `${verdict} ${kind}: ${what} ${seen}`).join('\n')

/** As a statement that waits for a lock or a slow disk does, it holds its connection and needs no CPU. */
const patient = defineModule({
  name: 'patient',
  owner: 'tests',
  routes(http, { data }) {
    http.get('/wait', async () => {
      await data.read((sql) => sql`select pg_sleep(0.005)`)
      return 'ok'
    })
  },
})
const waiting = defineApp({ name: 'waiting', modules: [patient] })

describe('situations made with real apps on a real Postgres', () => {
  it('an index dropped: that index first, with the statement to make it', async () => {
    const advice = await adviceFor({
      app: conduit,
      async prepare(run) {
        await run('drop index comments.comment_article_id_id_idx')
        await run(`insert into identity.account (email, username, password_hash)
          values ('a@example.org', 'anna', 'x')`)
        await run(`insert into articles.article (slug, title, description, body, author_id)
          select 'a-' || n, 'A', 'd', 'b', (select id from identity.account limit 1) from generate_series(1, 200) n`)
        await run(`insert into comments.comment (article_id, author_id, body)
          select a.id, a.author_id, 'text' from articles.article a, generate_series(1, 300)`)
        await run('analyze')
      },
      load: [{ path: '/api/articles/a-7/comments', times: 30 }],
    })
    const [first] = nowOf(advice)
    assert.equal(first?.kind, 'index', told(advice))
    assert.match(first!.change, /create index concurrently.* on comments\.comment.*\(article_id/s)
    assert.match(first!.undo, /drop index/)
    assert.ok(first!.relief!.share > 0.1, told(advice))
  })

  it('a statement for each row: one statement for all', async () => {
    const advice = await adviceFor({
      app: shop,
      load: [
        { path: '/n-plus-one', times: 12 },
        { path: '/levels', times: 50 },
      ],
    })
    const query = nowOf(advice).find(({ kind, what }) => kind === 'query' && /n-plus-one/.test(what))
    assert.ok(query, told(advice))
    assert.match(query.change, /where id = any/)
  })

  it('one slow statement among fast ones: that one', async () => {
    const advice = await adviceFor({
      app: shop,
      prepare: async (run) => {
        await run('insert into stock.item (id, n) values (1, 1)')
      },
      load: [
        { path: '/items/1', times: 200 },
        { path: '/slow-statement', times: 8 },
      ],
    })
    const [first] = nowOf(advice)
    assert.equal(first?.kind, 'query', told(advice))
    assert.match(first!.seen, /The statement: .*pg_sleep/)
  })

  it('a pool of 3 for 60 readers at a time, in less than a day: to be measured first', async () => {
    const load = [{ path: '/wait', times: 1_200, concurrency: 60 }]
    const advice = await adviceFor({ app: waiting, load, settings: { RUNG_POOL_READ: '3' } })
    assert.deepEqual(nowOf(advice), [], told(advice))
    const [first] = advice.findings
    assert.equal(first?.kind, 'pool', told(advice))
    assert.match(first!.what, /^Measure first: the read pool may be too small/)
  })

  it('a pool that is large enough: not yet', async () => {
    const advice = await adviceFor({ app: waiting, load: [{ path: '/wait', times: 1_200, concurrency: 6 }] })
    assert.deepEqual(nowOf(advice), [], told(advice))
    assert.match(advice.pressure.why, /Too little is recorded/)
  })
})
