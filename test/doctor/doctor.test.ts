import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { after, before, describe, test } from 'node:test'
import { main } from '../../src/cli/main.ts'
import { diagnose, type Evidence } from '../../src/doctor/diagnose.ts'
import { type Examination, type ExamineOptions, examine } from '../../src/doctor/examine.ts'
import type { Index, Session, Table } from '../../src/doctor/facts.ts'
import { type Finding, type FindingKind, findingKinds } from '../../src/doctor/finding.ts'
import { needsOf } from '../../src/doctor/needs.ts'
import { findingLines, serverLine } from '../../src/doctor/report.ts'
import { parseStatement, rewrite } from '../../src/doctor/rewrite.ts'
import { thresholds } from '../../src/doctor/thresholds.ts'
import { type Client, type ConnectionConfig, connectOnce } from '../../src/engines/postgres/client.ts'
import { type EmbeddedPostgres, startEmbedded } from '../../src/engines/postgres/embedded.ts'
import { parseSql } from '../../src/engines/postgres/parser.ts'
import { lintMigration } from '../../src/migrations/lint.ts'
import { migrate } from '../../src/migrations/migrate.ts'
import { type Sighting, saveSightings } from '../../src/observe/sighting-table.ts'
import { systemMigrations } from '../../src/runtime/migrations.ts'
import { openDatabase } from '../../src/runtime/wire.ts'
import type { Kept } from '../../src/stateless/finding.ts'
import { rung1k } from '../../src/topology/rungs/1k.ts'

let dir: string
let server: EmbeddedPostgres
let databases = 0
const every: Finding[] = []

before(async () => {
  dir = await mkdtemp(path.join(tmpdir(), 'rung-doctor-'))
  server = await startEmbedded({ root: dir, connectionsMax: 40 })
})
after(async () => {
  await server.stop()
  await rm(dir, { recursive: true, force: true })
})

/** How long a statement takes on the machine of the test says nothing: all are examined, and none is called slow. */
const untimed = { examinedShare: 0, slowMs: Number.POSITIVE_INFINITY, topMeanMs: Number.POSITIVE_INFINITY }

interface Patient {
  app: Client
  connection: ConnectionConfig
  admin: ConnectionConfig
  /** Runs it often enough to count. */
  load(text: string, values?: unknown[]): Promise<void>
  examine(options?: ExamineOptions): Promise<Examination>
  /** The findings of these kinds, or all. */
  findings(...kinds: FindingKind[]): Promise<Finding[]>
}

/** A database of its own, with `schema` run in it and everything analyzed. */
async function withPatient(schema: string, body: (patient: Patient) => Promise<void>): Promise<void> {
  databases += 1
  const database = `patient_${databases}`
  const root = await connectOnce({ ...server.adminConnection, database: 'postgres' })
  await root.query(`create database ${database} owner app`).finally(() => root.end())
  const admin = { ...server.adminConnection, database }
  const connection = { ...server.connection, database }
  const watcher = await connectOnce(admin)
  await watcher.query('create extension pg_stat_statements')
  const app = await connectOnce(connection)
  try {
    await app.query('create schema shop')
    await app.query(schema)
    await app.query('select pg_stat_force_next_flush()')
    await app.query('analyze')
    const patient: Patient = {
      app,
      connection,
      admin,
      async load(text, values = []) {
        for (let run = 0; run < 10; run += 1) await app.query(text, values)
      },
      async examine(options) {
        await app.query('select pg_stat_force_next_flush()')
        const before = new Set(await everythingIn(watcher))
        const examination = await examine(admin, { ...options, limits: { ...untimed, ...options?.limits } })
        const left = (await everythingIn(watcher)).filter((it) => !before.has(it))
        assert.deepEqual(left, [], 'the examination left something behind')
        every.push(...examination.findings)
        return examination
      },
      async findings(...kinds) {
        const { findings } = await patient.examine()
        return findings.filter(({ kind }) => kinds.length === 0 || kinds.includes(kind))
      },
    }
    await body(patient)
  } finally {
    await app.end()
    await watcher.end()
  }
}

async function everythingIn(client: Client): Promise<string[]> {
  const { rows } = await client.query(`select 'relation ' || oid || ' ' || relname as it from pg_class
    union all select 'schema ' || nspname from pg_namespace union all select 'constraint ' || conname from pg_constraint
    union all select 'lock ' || relation::regclass from pg_locks join pg_stat_activity using (pid)
      where pg_locks.database = (select oid from pg_database where datname = current_database()) and pid <> pg_backend_pid() and backend_type = 'client backend' order by 1`)
  return rows.map(({ it }) => it)
}

const customers = `create table shop.customer (
    id bigint generated always as identity primary key, email text not null, city text not null, active boolean not null);
  insert into shop.customer (email, city, active)
    select 'Person' || n || '@example.org', 'city ' || n % 400, n % 2 = 0 from generate_series(1, 20000) n;`
const orders = `create table shop."order" (
    id bigint generated always as identity primary key, customer_id bigint not null, status text not null,
    total integer not null, placed_at timestamptz not null, tags text[] not null default '{}');
  insert into shop."order" (customer_id, status, total, placed_at, tags)
    select 1 + (n * 7919::bigint) % 500, (array['new', 'paid', 'sent'])[1 + n % 3], (n * 31) % 1000,
      now() - n * interval '1 minute', array['tag ' || n % 3000] from generate_series(1, 40000) n;`

describe('indexes that are missing', () => {
  /** A statement without its index; what is advised, word for word; and that it cures. */
  const planted: { name: string; schema: string; statement: string; values?: unknown[]; sql: string }[] = [
    {
      name: 'a filter',
      schema: customers,
      statement: 'select id from shop.customer where city = $1 and active',
      values: ['city 7'],
      sql: 'create index concurrently customer_city_idx on shop.customer (city);',
    },
    {
      name: 'a filter by a function of a column',
      schema: customers,
      statement: 'select id from shop.customer where lower(email) = $1',
      values: ['person7@example.org'],
      sql: 'create index concurrently customer_lower_email_idx on shop.customer (lower(email));',
    },
    {
      name: 'a filter and an order',
      schema: orders,
      statement: 'select * from shop."order" o where o.customer_id = $1 order by o.placed_at desc limit 5',
      values: [7],
      sql: 'create index concurrently order_customer_id_placed_at_idx on shop."order" (customer_id, placed_at);',
    },
    {
      name: 'orders in two directions',
      schema: orders,
      statement: 'select id from shop."order" order by total desc, placed_at limit 10',
      sql: 'create index concurrently order_total_placed_at_idx on shop."order" (total desc, placed_at);',
    },
    {
      name: 'two filters that only together find few rows',
      schema: orders,
      statement: 'delete from shop."order" where total = $1 and customer_id = $2',
      values: [-1, 7],
      sql: 'create index concurrently order_total_customer_id_idx on shop."order" (total, customer_id);',
    },
    {
      name: 'a range that finds few rows',
      schema: orders,
      statement: `select id from shop."order" where placed_at > now() - interval '20 minutes'`,
      sql: 'create index concurrently order_placed_at_idx on shop."order" (placed_at);',
    },
    {
      name: 'an element of an array',
      schema: orders,
      statement: 'select id from shop."order" where tags @> $1',
      values: [['tag 7']],
      sql: 'create index concurrently order_tags_idx on shop."order" using gin (tags);',
    },
    {
      name: 'a join, below a subquery and by an alias',
      schema: customers + orders,
      statement: `select c.id, (select max(total) from shop."order" x where x.customer_id = c.id) from shop.customer c
        where c.id = $1`,
      values: [7],
      sql: 'create index concurrently order_customer_id_idx on shop."order" (customer_id);',
    },
  ]
  for (const { name, schema, statement, values, sql } of planted) {
    test(name, async () => {
      await withPatient(schema, async ({ app, load, findings }) => {
        await load(statement, values)
        const [finding, ...others] = await findings('missing-index')
        assert.deepEqual(others, [])
        assert.equal(finding?.sql, sql)
        assert.equal(finding.severity, 'act')
        const { costBefore, costAfter, calls } = finding.evidence as Record<string, number>
        assert.ok(costBefore! / costAfter! >= 3)
        assert.equal(calls, 10)
        await app.query(finding.sql)
        assert.deepEqual(await findings('missing-index'), [])
        await app.query(finding.undo)
        const [again] = await findings('missing-index')
        assert.equal(again?.sql, sql)
      })
    })
  }

  test('two at once, of which neither helps much without the other', async () => {
    await withPatient(
      `${orders} create table shop.line (id bigint primary key, order_id bigint not null, sku text not null);
       insert into shop.line select n, 1 + (n * 31::bigint) % 40000, 'sku ' || n % 5000 from generate_series(1, 60000) n;`,
      async ({ load, findings }) => {
        await load(
          'select o.id, l.sku from shop."order" o join shop.line l on l.order_id = o.id where o.total = $1 and o.customer_id = $2',
          [5, 7],
        )
        const found = await findings('missing-index')
        assert.deepEqual(found.map(({ sql }) => sql).sort(), [
          'create index concurrently line_order_id_idx on shop.line (order_id);',
          'create index concurrently order_total_customer_id_idx on shop."order" (total, customer_id);',
        ])
      },
    )
  })

  test('one index for two statements, where one needs its beginning', async () => {
    await withPatient(orders, async ({ load, findings }) => {
      await load('select count(*) from shop."order" where customer_id = $1', [7])
      await load('select id from shop."order" where customer_id = $1 order by placed_at limit 3', [7])
      const [finding, ...others] = await findings('missing-index')
      assert.deepEqual(others, [])
      assert.match(finding!.sql, /\(customer_id, placed_at\);$/)
      assert.equal(finding!.evidence.statements, 2)
    })
  })

  test('a foreign key, once somebody deletes', async () => {
    const child = `create table shop.parcel (
        id bigint primary key, customer_id bigint not null references shop.customer (id) on delete cascade);
      insert into shop.parcel select n, 1 + n % 20000 from generate_series(1, 40000) n;`
    await withPatient(customers + child, async ({ app, findings }) => {
      const [before] = await findings()
      assert.equal(before?.kind, 'missing-foreign-key-index')
      assert.equal(before.severity, 'look')
      await app.query('delete from shop.customer where id = 1')
      const [finding, ...others] = await findings()
      assert.deepEqual(others, [])
      assert.equal(finding?.severity, 'act')
      assert.equal(finding?.sql, 'create index concurrently parcel_customer_id_idx on shop.parcel (customer_id);')
      await app.query(finding!.sql)
      assert.deepEqual(await findings(), [])
    })
  })

  test('the blocks of a sample stand for a big table', async () => {
    const rows = `create table shop.reading (id bigint primary key, sensor integer not null, at timestamptz not null, value float8);
      insert into shop.reading select n, (n * 7919::bigint) % 3000, now() - n * interval '1 second', n from generate_series(1, 300000) n;
      create index reading_at_idx on shop.reading (at);`
    await withPatient(rows, async ({ load, examine }) => {
      await load('select max(value) from shop.reading where sensor = $1', [7])
      await load('select id from shop.reading where at > $1', [new Date(Date.now() - 60_000)]) // has its index
      const { findings } = await examine({ copyBytesMax: 2 * 1024 ** 2 })
      assert.deepEqual(
        findings.map(({ sql }) => sql),
        ['create index concurrently reading_sensor_idx on shop.reading (sensor);'],
      )
      const { sampleShare } = findings[0]!.evidence as Record<string, number>
      assert.ok(sampleShare! > 0.01 && sampleShare! < 0.2)
    })
  })

  test('not for what would gain nothing: half of the rows, a tiny table, a statement run twice', async () => {
    const tiny = `create table shop.country (id integer primary key, code text not null);
      insert into shop.country select n, 'c' || n from generate_series(1, 200) n;
      create table shop.visit (id integer primary key, country_id integer not null references shop.country (id));
      insert into shop.visit select n, n from generate_series(1, 200) n;`
    await withPatient(customers + tiny, async ({ app, load, findings }) => {
      await load('select id from shop.customer where active = $1', [true])
      await load('select id from shop.country where code = $1', ['c7'])
      await load('select id from shop.customer where city = $1 or active', ['city 7'])
      await load('select id from shop.customer where city like $1', ['%7%'])
      await app.query('select id from shop.customer where email = $1', ['nobody'])
      assert.deepEqual(await findings(), [])
    })
  })

  test('where two tables have one name, and what the app has planned never runs as the superuser', async () => {
    const twins = `create schema depot; create table depot.customer (id bigint primary key, shop_id bigint not null, bay text not null);
      insert into depot.customer select n, n, 'bay ' || n % 500 from generate_series(1, 20000) n;
      create function shop.unprivileged() returns text immutable language plpgsql as
        $$ begin if current_user <> 'app' then raise 'planned by %', current_user; end if; return 'bay 7'; end $$;`
    await withPatient(customers + twins, async ({ load, findings }) => {
      await load(`select city from shop.customer join depot.customer d on d.shop_id = customer.id
        where d.bay = shop.unprivileged()`)
      const found = await findings()
      assert.deepEqual(
        found.map(({ sql }) => sql),
        ['create index concurrently customer_bay_idx on depot.customer (bay);'],
      )
    })
  })

  test('beside writers, who are not kept waiting, and in spite of a lock on another table', async () => {
    await withPatient(customers + orders, async ({ app, connection, load, examine }) => {
      await load('select id from shop.customer where city = $1', ['city 7'])
      await load('select id from shop."order" where total = $1', [7])
      const other = await connectOnce(connection)
      try {
        await other.query('begin; lock table shop."order" in access exclusive mode')
        await app.query('begin; update shop.customer set active = active where id < 100')
        const { findings } = await examine()
        assert.deepEqual(
          findings.map(({ kind }) => kind),
          ['missing-index', 'blind-spot'],
        )
        assert.equal(findings[0]!.table, 'shop.customer')
      } finally {
        await app.query('rollback')
        await other.end()
      }
    })
  })
})

test('a healthy database has no findings', async () => {
  const indexes = `create index on shop.customer (city); create index on shop."order" (customer_id, placed_at);
    alter table shop."order" add foreign key (customer_id) references shop.customer (id);`
  await withPatient(customers + orders + indexes, async ({ load, examine }) => {
    await load('select * from shop.customer where id = $1', [7])
    await load('select * from shop.customer where city = $1', ['city 7'])
    await load('select * from shop."order" where customer_id = $1 order by placed_at desc limit 20', [7])
    await load('update shop.customer set active = not active where id = $1', [7])
    await load('insert into shop.customer (email, city, active) values ($1, $1, true)', ['new'])
    const { facts, findings } = await examine()
    assert.deepEqual(findings, [])
    assert.match(
      serverLine(facts),
      /^Postgres 18\.\d+ {2}[\d.]+ MiB {2}conns \d+\/37 {2}hits [\d.]+ % {2}tx 0 s {2}stats \d+ s {2}\d+ stmts$/,
    )
    assert.ok(serverLine(facts).length <= 80)
  })
})

describe('indexes that are in the way', () => {
  test('duplicate, redundant and invalid ones, each once, and undone word for word', async () => {
    const indexes = `create index customer_city on shop.customer (city);
      create index customer_city_again on shop.customer (city);
      create index customer_email on shop.customer (email);
      create index customer_email_city on shop.customer (email, city);
      create index customer_partial on shop.customer (email) where active;
      create unique index customer_id_again on shop.customer (id);
      insert into shop.customer (email, city, active) values ('twice', 'x', true), ('twice', 'x', true);`
    await withPatient(customers + indexes, async ({ app, findings }) => {
      await assert.rejects(app.query('create unique index concurrently customer_email_key on shop.customer (email)'))
      const found = await findings()
      assert.deepEqual(found.map(({ kind, severity, sql }) => [kind, severity, sql]).sort(), [
        ['duplicate-index', 'act', 'drop index concurrently shop.customer_city_again;'],
        ['duplicate-index', 'act', 'drop index concurrently shop.customer_id_again;'],
        ['invalid-index', 'act', 'drop index concurrently shop.customer_email_key;'],
        ['redundant-index', 'look', 'drop index concurrently shop.customer_email;'],
      ])
      for (const { sql } of found) await app.query(sql)
      assert.deepEqual(await findings(), [])
      for (const { kind, undo } of found) if (kind !== 'invalid-index') await app.query(undo)
      assert.deepEqual(
        (await findings()).map(({ sql }) => sql).sort(),
        found
          .slice(1)
          .map(({ sql }) => sql)
          .sort(),
      )
    })
  })

  test('one that nothing has used, but none that a key or a rule rests on', async () => {
    const indexes = `create index customer_city on shop.customer (city); create unique index on shop.customer (email, id);
      alter table shop."order" add foreign key (customer_id) references shop.customer (id);
      create index on shop."order" (customer_id); create index on shop."order" (total);`
    await withPatient(customers + orders + indexes, async ({ load, examine }) => {
      await load('select id from shop."order" where total = $1', [7])
      const soon = await examine({ limits: { unusedBytes: 1 } })
      assert.deepEqual(soon.findings, [], 'a fresh database has used nothing yet')
      const { findings } = await examine({ limits: { unusedSeconds: 0, unusedBytes: 1 } })
      assert.deepEqual(
        findings.map(({ kind, sql }) => [kind, sql]),
        [['unused-index', 'drop index concurrently shop.customer_city;']],
      )
    })
  })
})

describe('tables and sessions', () => {
  test('dead rows that nobody removes', async () => {
    const schema = `create table shop.event (id bigint primary key, body text) with (autovacuum_enabled = false);
      insert into shop.event select n, 'body' from generate_series(1, 40000) n;`
    await withPatient(schema, async ({ app, findings }) => {
      await app.query('delete from shop.event where id % 2 = 0')
      const found = await findings()
      assert.deepEqual(
        found.map(({ kind, sql }) => [kind, sql]),
        [
          ['dead-rows', 'vacuum (analyze) shop.event;'],
          ['autovacuum-off', 'alter table shop.event reset (autovacuum_enabled);'],
        ],
      )
      assert.equal(found[0]!.evidence.deadRows, 20_000)
      for (const { sql } of found) await app.query(sql)
      assert.deepEqual(await findings(), [])
    })
  })

  test('a table that was never analyzed', async () => {
    await withPatient(
      'create table shop.event (id bigint primary key) with (autovacuum_enabled = false)',
      async (patient) => {
        await patient.app.query('insert into shop.event select generate_series(1, 5000)')
        const [finding] = await patient.findings('statistics-missing')
        assert.equal(finding?.sql, 'analyze shop.event;')
        await patient.app.query(finding!.sql)
        assert.deepEqual(await patient.findings('statistics-missing'), [])
      },
    )
  })

  test('a transaction that is open and idle, and a session that waits for it', async () => {
    await withPatient(customers, async ({ app, connection, examine }) => {
      const waiting = await connectOnce(connection)
      await app.query('begin; update shop.customer set active = false where id = 7')
      const { rows } = await app.query('select pg_backend_pid() as pid')
      const waited = waiting.query('update shop.customer set active = true where id = 7')
      const watch = await connectOnce(connection)
      for (let blocked = 0; blocked === 0; ) {
        blocked = (await watch.query('select 1 from pg_locks where not granted')).rows.length
      }
      await watch.end()
      const limits = { idleInTransactionSeconds: 0, lockWaitSeconds: 0 }
      const { findings } = await examine({ limits })
      assert.deepEqual(findings.map(({ kind }) => kind).sort(), ['idle-in-transaction', 'lock-wait'])
      const idle = findings.find(({ kind }) => kind === 'idle-in-transaction')!
      assert.equal(idle.sql, `select pg_terminate_backend(${rows[0].pid});`)
      assert.equal(idle.evidence.sessionsWaiting, 1)
      await app.query('rollback')
      await waited
      await waiting.end()
      assert.deepEqual((await examine({ limits })).findings, [])
    })
  })

  test('a slow statement that no index helps, with what it is slow at', async () => {
    await withPatient(orders, async ({ load, examine }) => {
      await load('select status, sum(total) from shop."order" group by status')
      const { findings } = await examine({ limits: { slowMs: 0 } })
      const slow = findings.find(({ statement }) => statement?.startsWith('select status'))
      assert.equal(slow?.kind, 'slow-statement')
      assert.match(slow.what, /Most of its cost is: Seq Scan on order\.$/)
      assert.deepEqual(
        findings.filter(({ kind }) => kind === 'missing-index'),
        [],
      )
    })
  })

  test('a slow statement whose plan is cheap waits for a lock, whether the database or the app saw it', async () => {
    await withPatient(customers, async ({ load, examine }) => {
      const statement = 'update shop.customer set active = not active where id = $1'
      await load(statement, [7])
      const { findings } = await examine({ limits: { slowMs: 0 } })
      const slow = findings.find((finding) => finding.statement?.startsWith('update shop.customer'))!
      assert.match(slow.gain, /waiting, most likely for a row or table that another transaction has locked/)
      assert.match(slow.sql, /pg_blocking_pids/)
      assert.ok(Number(slow.evidence.planCost) < 100)
      const at = new Date().toISOString()
      const entries = [seen({ kind: 'slow', statement, at, worstMs: 900 }), seen({ kind: 'lock-wait', statement, at })]
      const told = (await examine({ seen: entries })).findings.filter(({ evidence }) => 'timesSeen' in evidence)
      assert.deepEqual(told.map(({ kind }) => kind).sort(), ['lock-wait', 'slow-statement'])
      for (const { gain, sql } of told) assert.match(gain + sql, /locked[\s\S]*pg_blocking_pids/)
    })
  })

  test('says nothing of statements of its own, and begins no sentence about a plan that it does not have', async () => {
    await withPatient(customers, async ({ examine }) => {
      const at = new Date().toISOString()
      const own = [
        'explain (generic_plan) select 1',
        'select id from rung.job_claim($1, $2)',
        'select queue, count(*) from rung.job group by queue',
        'select pg_sleep(1) from pg_class',
      ].map((statement) => seen({ kind: 'slow', statement, at }))
      assert.deepEqual((await examine({ seen: own })).findings, [])
      const unplanned = seen({ kind: 'slow', statement: 'select nothing from nowhere', at, plan: '\n' })
      const [finding] = (await examine({ seen: [unplanned] })).findings
      assert.equal(finding?.gain, 'It is quick most of the time. To see its plan:')
      const planned = seen({ kind: 'slow', statement: "select count(*) from shop.customer where city like '%7%'", at })
      const [other] = (await examine({ seen: [planned] })).findings
      assert.match(other!.gain, /Most of its cost is: Seq Scan on customer\./)
    })
  })

  test('sees waits and idle transactions before the limits of the app end them', () => {
    const { lockTimeoutMs, idleInTransactionTimeoutMs } = rung1k.data
    assert.ok(thresholds.lockWaitSeconds * 1000 < lockTimeoutMs)
    assert.ok(thresholds.idleInTransactionSeconds * 1000 < idleInTransactionTimeoutMs)
  })

  test('connections that are nearly used up', async () => {
    await withPatient('', async ({ connection, findings }) => {
      const many = await Promise.all(Array.from({ length: 31 }, () => connectOnce(connection)))
      const [finding] = await findings('connections')
      await Promise.all(many.map((client) => client.end()))
      assert.equal(finding?.severity, 'act')
      assert.equal(finding?.evidence.connectionsMax, 37)
    })
  })
})

describe('a database that does not show everything', () => {
  test('without pg_stat_statements', async () => {
    await withPatient(customers, async ({ connection, admin, app, examine: look }) => {
      const root = await connectOnce(admin)
      await root.query('drop extension pg_stat_statements')
      await root.end()
      await app.query('create index on shop.customer (city); create index on shop.customer (city)')
      const { findings, facts } = await look()
      assert.deepEqual(findings.map(({ kind, sql }) => [kind, sql]).slice(1), [
        ['blind-spot', 'create extension if not exists pg_stat_statements;'],
      ])
      assert.equal(findings[0]!.kind, 'duplicate-index')
      assert.match(serverLine(facts), / no stmts$/)
      assert.equal((await examine(connection)).findings.length, 2)
    })
  })

  test('for a role without rights', async () => {
    await withPatient(customers, async ({ admin, load }) => {
      await load('select id from shop.customer where city = $1', ['city 7'])
      const root = await connectOnce(admin)
      await root.query(`create role guest login; revoke temporary on database ${admin.database} from public`)
      const { findings } = await examine({ ...admin, user: 'guest' })
      await root.query('drop role guest').finally(() => root.end())
      assert.deepEqual(
        findings.map(({ kind, sql }) => [kind, sql]),
        [['blind-spot', 'grant pg_monitor to "guest";']],
      )
    })
  })
})

test('says what a role that owns only its database may not do', async () => {
  await withPatient(customers, async ({ admin }) => {
    const root = await connectOnce(admin)
    await root.query(`create role tenant login; grant create on database ${admin.database} to tenant`)
    const { facts, findings } = await examine({ ...admin, user: 'tenant' })
    await root
      .query(`revoke create on database ${admin.database} from tenant; drop role tenant`)
      .finally(() => root.end())
    assert.deepEqual(facts.server.creates, true)
    const what = findings.find(({ sql }) => sql.includes('grant pg_monitor'))!.what
    assert.match(what, /The role tenant may not do everything: it is not in pg_monitor.*; it has no REPLICATION/)
    assert.doesNotMatch(what, /cannot create/)
  })
})

describe('from facts alone', () => {
  const kindsOf = (change: (facts: Evidence) => void) => {
    const facts = wellFacts()
    change(facts)
    const findings = diagnose(facts)
    every.push(...findings)
    return findings.map(({ kind, severity }) => `${kind} ${severity}`)
  }

  test('nothing where all is well', () =>
    assert.deepEqual(
      kindsOf(() => {}),
      [],
    ))

  const changes: [name: string, expected: string[], change: (facts: Evidence) => void][] = [
    ['fsync off', ['setting act'], ({ settings }) => Object.assign(settings, { fsync: 'off' })],
    [
      'old transaction ids',
      ['wraparound look'],
      ({ server }) => Object.assign(server, { transactionAge: 600_000_000 }),
    ],
    ['very old ones', ['wraparound act'], ({ server }) => Object.assign(server, { multixactAge: 1_900_000_000 })],
    ['many connections', ['connections look'], ({ server }) => Object.assign(server, { connectionsUsed: 75 })],
    [
      'a long transaction',
      ['long-transaction look'],
      (facts) => Object.assign(facts, { sessions: [session({ state: 'active', transactionSeconds: 400 })] }),
    ],
    [
      'old statistics',
      ['statistics-missing look'],
      ({ tables }) => Object.assign(tables[0]!, { changedRows: 90_000, analyzedSeconds: 9_000 }),
    ],
    [
      'a slow statement',
      ['slow-statement look'],
      (facts) => Object.assign(facts, { statements: [statement({ meanMs: 150, share: 0.01 })] }),
    ],
    [
      'one that takes much of the time',
      ['slow-statement look'],
      (facts) => Object.assign(facts, { statements: [statement({ meanMs: 20, share: 0.4 })] }),
    ],
    [
      'a fast one that does',
      [],
      (facts) => Object.assign(facts, { statements: [statement({ meanMs: 2, share: 0.4 })] }),
    ],
    ['an index being built', [], ({ indexes }) => Object.assign(indexes[0]!, { valid: false, building: true })],
    [
      'the beginning of a much bigger index',
      [],
      (facts) =>
        Object.assign(facts, {
          indexes: [index({ keys: ['a'] }), index({ oid: 2, keys: ['a', 'b'], sizeBytes: 50 * 1024 ** 2 })],
        }),
    ],
    [
      'other collations, other conditions',
      [],
      (facts) =>
        Object.assign(facts, {
          indexes: [index({}), index({ oid: 2, signature: ['a C'] }), index({ oid: 3, predicate: 'b' })],
        }),
    ],
    ['unused for a month', ['unused-index look'], ({ indexes }) => Object.assign(indexes[0]!, { scans: 0 })],
    [
      'seen by the app',
      ['n-plus-one look', 'slow-statement look'],
      (facts) => Object.assign(facts, { seen: [seen({}), seen({ kind: 'slow', statement: 'select 2' })] }),
    ],
    ['seen long ago', [], (facts) => Object.assign(facts, { seen: [seen({ at: '2026-01-01T00:00:00Z' })] })],
  ]
  for (const [name, expected, change] of changes) {
    test(name, () => assert.deepEqual(kindsOf(change), expected))
  }

  test('a replica may use what the primary does not', () => {
    const facts = wellFacts()
    Object.assign(facts.indexes[0]!, { scans: 0 })
    Object.assign(facts.server, { replicas: 1 })
    assert.match(diagnose(facts)[0]!.what, /not counted here/)
  })
})

describe('a statement', () => {
  const table = (name: string, ...columns: string[]): Table => ({
    ...wellTable(),
    name,
    sql: `shop.${name}`,
    columns: columns.map((column) => ({ name: column, sql: column, distinct: 10 })),
  })
  const tables = [table('a', 'id', 'x', 'y'), table('b', 'id', 'a_id', 'z')]
  const find = (_schema: string | undefined, name: string) => tables.find((one) => one.name === name)
  const needs = async (text: string) => {
    const parsed = await parseStatement(text)
    const { sources } = needsOf(parsed!.ast, find)
    return sources.map(({ alias, equal, joined, range, sort }) => {
      const words = [equal, joined, range, sort].map((keys) => keys.map(({ sql }) => sql).join(','))
      return `${alias}: ${words.join(' | ')}`
    })
  }
  const cases: [text: string, ...needs: string[]][] = [
    ['select * from shop.a where x = $1 and y > $2 order by id', 'a: x |  | y | id'],
    ['select * from shop.a where x = $1 or y = $2', 'a:  |  |  | '],
    ['select * from shop.a where $1 = x and y in ($2) and id = any($3)', 'a: x,y,id |  |  | '],
    ['select * from a as q join b on b.a_id = q.id where z is null', 'q:  | id |  | ', 'b: z | a_id |  | '],
    ['select * from a join b using (id)', 'a:  | id |  | ', 'b:  | id |  | '],
    ['select * from a left join b on b.a_id = a.id and b.z = 1', 'a:  | id |  | ', 'b: z | a_id |  | '],
    ['select * from a p, a q where p.x = q.y and p.id < 5', 'p:  | x | id | ', 'q:  | y |  | '],
    ['select * from a where exists (select 1 from b where a_id = a.id)', 'a:  | id |  | ', 'b:  | a_id |  | '],
    ['select * from a where id in (select a_id from b where z = 1)', 'a:  | id |  | ', 'b: z | a_id |  | '],
    ['with a as (select * from b where z = 1) select * from a where x = 2', 'b: z |  |  | '],
    ['select * from (select 1 as x) s, b where x = 3 and z = 4', 'b: z |  |  | '],
    ['update a set x = 1 from b where a.id = b.a_id and a.y = 2', 'a: y | id |  | ', 'b:  | a_id |  | '],
    ['delete from a using (select a_id from b where z = 1) s where s.a_id = a.id', 'a: id |  |  | ', 'b: z |  |  | '],
    ['delete from a where y between 1 and 2', 'a:  |  | y | '],
    ['insert into a select * from b where z = 1', 'b: z |  |  | '],
    ['select x as n, count(*) from a group by x order by n', 'a:  |  |  | '],
    ['select x as n from a order by n, 1 desc', 'a:  |  |  | x,x'],
    ['select * from a where x = 1 union select * from a where y = 2 order by 1', 'a: x |  |  | ', 'a: y |  |  | '],
    ['select * from a where x = y', 'a:  |  |  | '],
  ]
  for (const [text, ...expected] of cases) {
    test(`needs: ${text}`, async () => assert.deepEqual(await needs(text), expected))
  }

  test('is put about other tables, with limits and constants that can be planned', async () => {
    const text = `/* ü */ select shop.a.x, "b".z from shop . a, b where a.y > now() - interval $1 and b.z = 'é' and
      extract($2 from a.x) = $3 and exists (select from a order by y limit $4) limit $5 offset $6`
    const parsed = (await parseStatement(text))!
    const { sources } = needsOf(parsed.ast, find)
    const rewritten = rewrite(parsed, { sources, nameOf: ({ table }) => `pg_temp.ü_${table.name}`, limit: 7 })
    assert.equal(
      rewritten.trim(),
      `select a.x, "b".z from pg_temp.ü_a as "a", pg_temp.ü_b as "b" where a.y > now() - $1::interval and b.z = 'é' and
      extract(epoch from a.x) = $3 and exists (select from pg_temp.ü_a as "a" order by y limit 10) limit 7 offset 0`,
    )
  })

  test('is let alone when it is none of ours', async () => {
    for (const text of ['vacuum', 'select 1; select 2', 'select from where', 'create table x ()', '']) {
      assert.equal(await parseStatement(text), undefined)
    }
  })
})

describe('rung doctor', () => {
  interface Document {
    findings: (Finding & { migration?: string })[]
    sources?: Kept[]
    error?: { code: string }
  }

  async function run(args: string[], env: Record<string, string>) {
    const lines: string[] = []
    const notes: string[] = []
    const documents: unknown[] = []
    const code = await main(['doctor', ...args], env, dir, {
      line: (text = '') => lines.push(text),
      json: (value) => documents.push(value),
      note: (text) => notes.push(text),
    })
    return { code, lines, notes, document: documents[0] as Document }
  }
  const urlOf = ({ user, host, database }: ConnectionConfig) =>
    `postgres://${user}@/${database}?host=${encodeURIComponent(host!)}`

  test('says that there is nothing to do, beside the running app', async () => {
    const { code, lines, notes } = await run([], { RUNG_DATA: dir })
    assert.equal(code, 0, notes.join('\n'))
    assert.match(lines[0]!, /^Postgres 18/)
    assert.deepEqual(lines.slice(1), ['', 'Nothing to do.'])
  })

  test('says what to do, and ends with 2', async () => {
    await withPatient(customers, async ({ load, admin }) => {
      await load('select id from shop.customer where city = $1', ['city 7'])
      const { code, lines, notes } = await run([], { DATABASE_URL: urlOf(admin) })
      assert.equal(code, 2)
      assert.equal(lines.at(-1), '1 to act on.')
      assert.ok(lines.includes('      do    create index concurrently customer_city_idx on shop.customer'))
      assert.deepEqual(notes, ['[1/1] select id from shop.customer where city = $1'])
      const { document } = await run(['--json'], { DATABASE_URL: urlOf(admin) })
      assert.equal(document.findings[0]?.kind, 'missing-index')
    })
  })

  test('names the migration that an index belongs in, and tells what the app saw', async () => {
    const articles = `create schema articles; create table articles.article (id bigint primary key, author_id bigint not null);
      insert into articles.article select n, n % 900 from generate_series(1, 20000) n;`
    await withPatient(articles, async ({ load, admin, connection }) => {
      await load('select id from articles.article where author_id = $1', [7])
      await migrate({ connection, migrations: systemMigrations })
      const database = openDatabase(rung1k.data, connection)
      // Each process tells what it has seen by itself.
      for (const count of [1, 2]) await saveSightings(database, [seen({ at: new Date().toISOString(), count })])
      await database.close()
      const conduit = path.resolve(import.meta.dirname, '../../examples/conduit/app.ts')
      const { document, code } = await run([conduit, '--json'], { DATABASE_URL: urlOf(admin) })
      assert.equal(code, 2, JSON.stringify(document))
      const [index, nPlusOne] = document.findings
      assert.ok(!path.isAbsolute(index!.migration!), 'other machines have other folders')
      assert.match(index!.migration!, /examples\/conduit\/articles\/migrations\/\d{4}_article_author_id_idx\.sql$/)
      assert.equal(nPlusOne?.kind, 'n-plus-one')
      assert.equal(nPlusOne?.evidence.timesSeen, 3)
    })
  })

  test('looks at the sources of the app too, and ends with 2', async () => {
    const till = path.resolve(import.meta.dirname, '../support/apps/till/app.ts')
    await withPatient('', async ({ admin }) => {
      const { code, lines } = await run([till], { DATABASE_URL: urlOf(admin) })
      assert.equal(code, 2)
      assert.equal(lines[2], 'act   "failures" is a Map in the memory of one process, and requests change it.')
      assert.match(
        lines.join('\n'),
        /^ {6}at {4}\S+till\/app\.ts:64\n {6}by {4}\S+till\/app\.ts:74\n {6}do {4}Keep it/m,
      )
      const { document } = await run([till, '--json'], { DATABASE_URL: urlOf(admin) })
      assert.deepEqual(
        document.sources?.map(({ kind, severity, line }) => [kind, severity, line]),
        [['state', 'act', 64]],
      )
    })
  })

  test('refuses what is not there', async () => {
    const folder = await mkdtemp(path.join(tmpdir(), 'rung-none-'))
    assert.equal((await run([], { RUNG_DATA: folder })).code, 1)
    const gone = await run(['--json'], { DATABASE_URL: `postgres://x@/x?host=${encodeURIComponent(folder)}` })
    assert.equal(gone.code, 1)
    assert.equal(gone.document.error?.code, 'DATA_UNAVAILABLE')
    await rm(folder, { recursive: true })
  })
})

// Last: it looks at all that the tests above have found.
describe('every finding', () => {
  test('fits 80 columns and has SQL that Postgres understands', async () => {
    const kinds = new Set(every.map(({ kind }) => kind))
    assert.deepEqual(
      Object.keys(findingKinds).filter((kind) => !kinds.has(kind as FindingKind)),
      [],
    )
    for (const finding of every) {
      for (const line of findingLines(finding)) assert.ok(line.length <= 80, line)
      for (const sql of [finding.sql, finding.undo]) await parseSql(sql)
    }
  })

  test('has an index that passes the migration lint', async () => {
    const advised = every.filter(({ sql }) => sql.startsWith('create index'))
    for (const { sql, table } of advised) {
      const statements = await parseSql(sql)
      const module = table!.split('.')[0]!
      assert.deepEqual(lintMigration({ file: '1.sql', text: sql, statements, module, reads: [] }), [])
    }
    assert.ok(advised.length > 10)
  })
})

// ── facts of a database in which all is well ─────────────────────────────────────────────────────────────────────────

function wellTable(): Table {
  return {
    oid: 1,
    schema: 'shop',
    name: 'customer',
    sql: 'shop.customer',
    owner: 'app',
    partitioned: false,
    partition: false,
    rows: 1_000_000,
    sizeBytes: 100 * 1024 ** 2,
    indexBytes: 20 * 1024 ** 2,
    liveRows: 1_000_000,
    deadRows: 100,
    changedRows: 0,
    deleted: 0,
    writes: 1_000_000,
    scans: 90_000,
    vacuumedSeconds: 3_600,
    analyzedSeconds: 3_600,
    hasStatistics: true,
    autovacuum: true,
    vacuumTrigger: 200_000,
    analyzeTrigger: 40_000,
    transactionAge: 1_000,
    columns: ['a', 'b'].map((name) => ({ name, sql: name, distinct: 1_000 })),
  }
}

function index(change: Partial<Index>): Index {
  const keys = change.keys ?? ['a']
  return {
    oid: 1,
    tableOid: 1,
    name: `customer_${change.oid ?? 1}`,
    sql: `shop.customer_${change.oid ?? 1}`,
    method: 'btree',
    unique: false,
    nullsEqual: false,
    valid: true,
    building: false,
    replicaIdentity: false,
    keys,
    signature: keys,
    included: [],
    predicate: null,
    definition: `CREATE INDEX customer_1 ON shop.customer USING btree (${keys.join(', ')})`,
    constraintName: null,
    constraintDefinition: null,
    referenced: false,
    scans: 100,
    sizeBytes: 10 * 1024 ** 2,
    ...change,
  }
}

function session(change: Partial<Session>): Session {
  const idle = { transactionSeconds: 0, stateSeconds: 0, waitSeconds: 0, blockedBy: [] }
  return {
    pid: 7,
    application: 'rung',
    state: 'idle',
    hidden: false,
    query: 'select 1',
    ...idle,
    ...change,
  }
}

function statement(change: object) {
  return {
    id: '1',
    text: 'select sum(a) from shop.customer',
    calls: 100,
    totalMs: 1_000,
    meanMs: 10,
    rows: 100,
    share: 0.1,
    ...change,
  }
}

function seen(change: Partial<Sighting>): Sighting {
  const place = { site: 'a.ts:1:1', route: 'GET /a', module: 'a' }
  const times = { firstAt: '2026-11-01T00:00:00Z', at: '2026-11-01T00:00:00Z' }
  const took = { totalMs: null, worstMs: null, rows: null, plan: null }
  const what = { fingerprint: 'f', kind: 'n-plus-one', statement: 'select 1', count: 1 } as const
  return { ...what, ...place, ...times, ...took, ...change }
}

function wellFacts(): Evidence {
  return {
    server: {
      version: '18.4',
      versionNumber: 180_004,
      database: 'app',
      role: 'app',
      superuser: false,
      monitors: true,
      creates: true,
      replicates: false,
      owner: 'app',
      sizeBytes: 200 * 1024 ** 2,
      standby: false,
      replicas: 0,
      now: '2026-11-05T00:00:00Z',
      statsSeconds: 30 * 86_400,
      pagesHit: 10_000_000,
      pagesRead: 10_000,
      transactionAge: 1_000,
      multixactAge: 1_000,
      connectionsMax: 100,
      connectionsUsed: 10,
    },
    settings: { fsync: 'on' },
    sessions: [session({})],
    tables: [wellTable()],
    indexes: [index({})],
    foreignKeys: [],
    statements: [],
    statementsSeen: 10,
    gaps: [],
    verification: { trials: [], plans: new Map(), gaps: [] },
    seen: [],
  }
}
