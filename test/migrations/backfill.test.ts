import assert from 'node:assert/strict'
import { fork } from 'node:child_process'
import { once } from 'node:events'
import { after, before, beforeEach, describe, it } from 'node:test'
import { type Client, type ConnectionConfig, connectOnce } from '../../src/engines/postgres/client.ts'
import { pauseReason } from '../../src/migrations/backfill.ts'
import { type MigrationEvent, migrate, migrationStatus } from '../../src/migrations/migrate.ts'
import { coded, withFiles } from '../support/migrations.ts'
import { type TestPostgres, testPostgres, urlOf } from '../support/postgres.ts'

let postgres: TestPostgres
let connection: ConnectionConfig
before(async () => {
  postgres = await testPostgres()
})
after(() => postgres.stop())
beforeEach(async () => {
  connection = await postgres.createDatabase()
})

async function using<T>(fn: (client: Client) => Promise<T>): Promise<T> {
  const client = await connectOnce(connection)
  try {
    return await fn(client)
  } finally {
    await client.end()
  }
}

const rowsOf = (text: string) => using(async (client) => (await client.query(text)).rows)

const posts = (
  rows: number,
) => `create table post (id bigint primary key, title text, slug text, fills int not null default 0);
  insert into post (id, title) select n * 7, 'Title ' || n from generate_series(1, ${rows}) n;`
const fill = 'update post p set slug = lower(title), fills = fills + 1 where :batch and slug is null;'
const required = `alter table post add constraint post_slug_present check (slug is not null) not valid;`
const proven = `alter table post validate constraint post_slug_present;
  alter table post alter column slug set not null;
  alter table post drop constraint post_slug_present;`

describe('a backfill', () => {
  it('fills a column before the next files make it required, in batches, with progress', async () => {
    const files = {
      '0001_post.sql': posts(5000),
      '0002_fill.backfill.sql': `-- not this :batch\n${fill}`,
      '0003_required.sql': required,
      '0004_proven.sql': proven,
    }
    await withFiles(files, async (load) => {
      const events: MigrationEvent[] = []
      const applied = await migrate({
        connection,
        migrations: await load(),
        onEvent: (event) => void events.push(event),
      })
      assert.equal(applied.length, 4)
      assert.deepEqual(await rowsOf('select count(slug)::int, min(fills), max(fills) from shop.post'), [
        { count: 5000, min: 1, max: 1 },
      ])
      const progress = events.flatMap((event) => (event.kind === 'filled' ? [event.progress] : []))
      assert.ok(progress.length > 1)
      assert.deepEqual(
        progress.map(({ rows }) => rows),
        progress.map(({ rows }) => rows).toSorted((a, b) => a - b),
      )
      assert.equal(progress.at(-1)!.rows, 5000)
      assert.equal(progress.at(-1)!.rowsTotal, 5000)
      assert.equal(progress.at(-1)!.leftMs, 0)
      assert.deepEqual(await rowsOf('select * from rung.migration_backfill'), [])
      assert.deepEqual(await migrate({ connection, migrations: await load() }), [])
    })
  })

  it('goes along a key of several columns, of any type, and may delete', async () => {
    const files = {
      '0001_a.sql': `create table line (shop uuid, "at of" timestamptz, label text, n int, primary key (shop, "at of", label));
        insert into line select md5((n % 5)::text)::uuid, timestamptz '2024-01-01' + n * interval '1 s', 'l"' || n, n
          from generate_series(1, 3000) n;`,
      '0002_b.backfill.sql': 'update shop.line set n = n + 1 where n % 2 = 0 and :batch',
      '0003_c.backfill.sql': 'delete from line as l where :batch and l.n < 11',
      '0004_d.sql': 'create table empty (id int primary key, x int);',
      '0005_e.backfill.sql': 'update empty set x = 1 where :batch',
    }
    await withFiles(files, async (load) => {
      await migrate({ connection, migrations: await load() })
      assert.deepEqual(await rowsOf('select count(*)::int, sum(n)::int from shop.line'), [
        { count: 2991, sum: (3000 * 3001) / 2 + 1500 - 49 },
      ])
    })
  })

  it('that is killed goes on after its last batch, and does none twice', async () => {
    const files = {
      '0001_post.sql': posts(30_000),
      '0002_fill.backfill.sql': 'update post set fills = fills + 1 where :batch and pg_sleep(0) is not null',
    }
    await withFiles(files, async (load, folder) => {
      const child = fork(new URL('./backfill-and-die.ts', import.meta.url), [urlOf(connection), folder], {
        stdio: ['ignore', 'pipe', 'inherit', 'ipc'],
        execArgv: ['--conditions=rung-source'],
      })
      const exited = once(child, 'exit')
      await Promise.race([once(child.stdout!, 'data'), exited])
      assert.equal(child.exitCode, null, 'it did not end by itself')
      child.kill('SIGKILL')
      await exited
      const [{ done }] = await rowsOf('select rows_done::int as done from rung.migration_backfill')
      assert.ok(done > 0 && done <= 30_000)
      await migrate({ connection, migrations: await load() })
      assert.deepEqual(await rowsOf('select min(fills), max(fills), count(*)::int from shop.post'), [
        { min: 1, max: 1, count: 30_000 },
      ])
    })
  })

  it('lets writers go on beside it; what they insert meanwhile is left to them, and it ends', async () => {
    const files = { '0001_post.sql': posts(40_000), '0002_fill.backfill.sql': fill }
    await withFiles(files, async (load) => {
      const [first, second] = await load()
      await migrate({ connection, migrations: [first!] })
      let ended = false
      let written = 0
      const writer = using(async (client) => {
        await client.query("set lock_timeout = '2s'")
        for (let n = 1; !ended; n += 1) {
          await client.query("update shop.post set title = 'new' where id = $1", [((n * 997) % 40_000) * 7 + 7])
          await client.query("insert into shop.post (id, title, slug) values ($1, 'late', 'own')", [1_000_000 + n])
          written += 1
        }
      })
      const migrations = [first!, second!]
      const both = [migrate({ connection, migrations }), migrate({ connection, migrations })]
      const applied = await Promise.all(both).finally(() => {
        ended = true
      })
      await writer
      assert.equal(applied.flat().length, 1, 'one of two processes does it')
      assert.ok(written > 0)
      assert.deepEqual(await rowsOf('select count(*)::int from shop.post where slug is null'), [{ count: 0 }])
      assert.deepEqual(await rowsOf('select max(fills) from shop.post where id > 1000000'), [{ max: 0 }])
    })
  })

  it('waits for a row that another transaction has locked, a short time, and tries again', async () => {
    const files = { '0001_post.sql': posts(50), '0002_fill.backfill.sql': fill }
    await withFiles(files, async (load) => {
      const migrations = await load()
      await migrate({ connection, migrations: [migrations[0]!] })
      await using(async (client) => {
        await client.query('begin')
        await client.query('select from shop.post where id = 70 for update')
        const retried = Promise.withResolvers<void>()
        const migrating = migrate({
          connection,
          migrations,
          onEvent: (event) => event.kind === 'retry' && retried.resolve(),
        })
        await Promise.race([retried.promise, migrating])
        await client.query('rollback')
        assert.equal((await migrating).length, 1)
      })
    })
  })

  it('names the row that fails, keeps what was before it, and goes on when it is corrected', async () => {
    const files = {
      '0001_post.sql': posts(3000),
      '0002_number.backfill.sql': 'update post set fills = substr(title, 7)::int where :batch',
      '0003_later.sql': 'create table later (id int)',
    }
    await withFiles(files, async (load) => {
      const migrations = await load()
      await migrate({ connection, migrations: [migrations[0]!] })
      await rowsOf("update shop.post set title = 'Title x' where id = 7 * 2345")
      await assert.rejects(
        migrate({ connection, migrations }),
        coded(
          'MIGRATION_FAILED',
          /shop\/0002_number\.backfill\.sql failed at the row of post with id = 16415: invalid/,
        ),
      )
      assert.deepEqual(await rowsOf('select count(*)::int from shop.post where fills > 0'), [{ count: 2344 }])
      assert.deepEqual(await rowsOf("select to_regclass('shop.later') as later"), [{ later: null }])
      const states = await migrationStatus({ connection, migrations })
      assert.deepEqual(
        states.map(({ state }) => state),
        ['applied', 'pending', 'pending'],
      )
      await rowsOf("update shop.post set title = 'Title 9' where id = 16415")
      assert.equal((await migrate({ connection, migrations })).length, 2)
      assert.deepEqual(await rowsOf('select count(*)::int from shop.post where fills > 0'), [{ count: 3000 }])
    })
  })

  it('is stopped between two batches, and refused at the start of an app when it is large', async () => {
    const files = { '0001_post.sql': posts(9000), '0002_fill.backfill.sql': fill }
    await withFiles(files, async (load) => {
      const migrations = await load()
      const stop = new AbortController()
      const onEvent = (event: MigrationEvent) => event.kind === 'filled' && stop.abort()
      await assert.rejects(
        migrate({ connection, migrations, onEvent, signal: stop.signal }),
        coded('MIGRATION_BACKFILL', /was stopped after 1000 of about 9000 rows/),
      )
      await assert.rejects(
        migrate({ connection, migrations, backfillRowsMax: 8_999 }),
        coded('MIGRATION_BACKFILL', /more than 8999 rows of "post".*Run "rung migrate" first/),
      )
      assert.equal((await migrate({ connection, migrations, backfillRowsMax: 9_000 })).length, 1)
      assert.deepEqual(await rowsOf('select min(fills), max(fills) from shop.post'), [{ min: 1, max: 1 }])
    })
  })

  it('is refused without a primary key, and when :batch does not bound its only statement', async () => {
    const table = 'create table post (id int, slug text);'
    const backfill = async (text: string) =>
      withFiles({ '0001_post.sql': table, '0002_fill.backfill.sql': text }, async (load) => {
        await migrate({ connection, migrations: await load() })
      })
    const refused: [string, RegExp][] = [
      ['update post set slug = 1 where :batch', /no primary key/],
      ['update gone set slug = 1 where :batch', /no table "gone"/],
      ['update post set slug = 1', /must have :batch once/],
      ['update post set slug = 1 where :batch or id > 1', /must have :batch once/],
      ['update post set slug = 1 where :batch and :batch', /must have :batch once/],
      ["update post set slug = ':batch' where id = 1 -- :batch", /must have :batch once/],
      ['update post set slug = 1 where :batch; select 1', /exactly one UPDATE or DELETE/],
      ['insert into post select 1', /exactly one UPDATE or DELETE/],
      ['with x as (delete from post returning id) delete from post where :batch', /WITH/],
      ['update post set where :batch', /not valid SQL/],
    ]
    for (const [text, why] of refused) await assert.rejects(backfill(text), coded('MIGRATION_INVALID', why), text)
  })

  it('rests while a replica or the server is behind', () => {
    const calm = { lagMs: 900, lagBytes: 0, active: 4, waiting: 1 }
    assert.equal(pauseReason(calm), undefined)
    assert.match(pauseReason({ ...calm, lagMs: 1500 })!, /a replica is 1500 ms behind/)
    assert.match(pauseReason({ ...calm, lagBytes: 2 ** 30 })!, /1024 MiB/)
    assert.match(pauseReason({ ...calm, waiting: 6 })!, /6 sessions wait for locks/)
    assert.match(pauseReason({ ...calm, active: 51 })!, /51 sessions are active/)
  })
})
