import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { kindOf, maskPersonal, ownTables } from '../../src/backup/staging.ts'
import { type Client, type ConnectionConfig, connectOnce } from '../../src/engines/postgres/client.ts'
import { migrate } from '../../src/migrations/migrate.ts'
import { systemMigrations } from '../../src/runtime/migrations.ts'
import { type TestPostgres, testPostgres } from '../support/postgres.ts'

const columns = `
  id int generated always as identity primary key, email text not null unique, birth_date date not null, address jsonb not null,
  password_hash bytea not null, phones text[], "userName" text, "tokenHash" text, email_verified boolean, address_id bigint, email_at timestamptz`

describe('masking a copy', () => {
  let postgres: TestPostgres
  let admin: ConnectionConfig
  let sql: Client

  before(async () => {
    postgres = await testPostgres()
    const connection = await postgres.createDatabase()
    await migrate({ connection, migrations: systemMigrations })
    admin = { ...postgres.admin, database: connection.database }
    sql = await connectOnce(admin)
    await sql.query(`create schema m;
      set search_path = m;
      create table person (${columns});
      create subscription of_others connection 'host=/nowhere' publication p with (connect = false);
      alter subscription of_others enable;
      create table letter (of_person text references person (email), body text collate "C");
      create table without_comments (a int, dropped text);
      insert into person (email, birth_date, address, password_hash, phones)
        select 'real' || n || '@mail.test', '1970-02-03', '{"street": "real"}', 'real', '{real}' from generate_series(1, 50) n;
      insert into letter select email, 'Zo\u00eb, \u6771\u4eac \u0663!' from person;
      insert into without_comments values (1, 'in no column');
      alter table without_comments drop column dropped;
      insert into rung.migration_backfill (module, name, table_name, end_key) values ('m', 'a', 'person', '{real1@mail.test}');
      create materialized view emails as select email from person;
      create materialized view emails_again as select email from emails;
      insert into rung.session (id, digest, principal, expires_at)
        select n, sha256(n::text::bytea), 'real' || n, now() from generate_series(1, 50) n;
      select rung.search_create('m', 'x', true);
      analyze`)
  })
  after(async () => {
    await sql.query('alter subscription of_others set (slot_name = none)')
    await sql.query('drop subscription of_others')
    await sql.end()
    await postgres.stop()
  })

  const refused = (says: RegExp) =>
    assert.rejects(maskPersonal(admin), ({ code, message }: Error & { code: string }) => {
      assert.equal(code, 'STAGING_INVALID')
      assert.match(message, says)
      return true
    })

  it('refuses what leads a copy outside, or what masking cannot see', async () => {
    const unsafe: [create: string, drop: string, says: RegExp][] = [
      ['create foreign table f (a text) server s', 'drop foreign table f', /^Foreign tables \(m\.f\)/],
      [
        'create table parted (a int) partition by list (a); create foreign table one partition of parted for values in (1) server s',
        'drop table parted',
        /^Foreign tables \(m\.one\)/,
      ],
      [
        'create user mapping for public server s',
        'drop user mapping for public server s',
        /^User mappings \(public at s\)/,
      ],
      ['create extension dblink', 'drop extension dblink', /^With the extension dblink/],
      [
        'create event trigger e on ddl_command_end execute function nothing_event()',
        'drop event trigger e',
        /^Event triggers \(e\)/,
      ],
      [
        `create trigger t before update on person for each row execute function nothing(); alter table person enable always trigger t`,
        'drop trigger t on person',
        /^Triggers \(t on m\.person\)/,
      ],
      [
        'create rule r as on update to person do nothing; alter table person enable replica rule r',
        'drop rule r on person',
        /^Rules \(r on m\.person\)/,
      ],
      ['select lo_create(4711)', 'select lo_unlink(4711)', /^Large objects \(4711\)/],
    ]
    await sql.query(`
      create foreign data wrapper w;
      create server s foreign data wrapper w;
      create function nothing() returns trigger language plpgsql as 'begin return new; end';
      create function nothing_event() returns event_trigger language plpgsql as 'begin end'`)
    for (const [create, drop, says] of unsafe) {
      await sql.query(create)
      await refused(says)
      await sql.query(drop)
    }
  })

  it('wants to know of each column that looks personal, of whatever type', async () => {
    await refused(
      /^m\.person\.email, m\.person\.birth_date, m\.person\.address, m\.person\.password_hash, m\.person\.phones, m\.person\.userName, m\.person\.tokenHash may be/,
    )
  })

  it('wants the same of columns that refer to each other', async () => {
    await sql.query(`
      comment on column person.email is 'personal: email';
      comment on column person.birth_date is 'personal: name';
      comment on column person.address is 'personal: remove';
      comment on column person.password_hash is 'personal: remove';
      comment on column person.phones is 'personal: remove';
      comment on column person."tokenHash" is 'personal: secret';
      comment on column person."userName" is 'personal: no'`)
    for (const comment of ['Personal: text', 'What they say. personal: text', 'personal:text_of_them']) {
      await sql.query(`comment on column letter.body is '${comment}'`)
      await refused(/^The comment on m\.letter\.body has the word "personal"/)
    }
    await sql.query(`comment on column letter.body is 'personal: text, what they say'`)
    await refused(/^m\.person\.birth_date is no text: write 'personal: remove'/)
    await sql.query(`comment on column person.birth_date is 'personal: remove'`)
    await refused(/^m\.letter\.of_person refers to m\.person\.email, so both need the same comment/)
    await sql.query(`comment on column letter.of_person is 'personal: email'`)
  })

  it('leaves no value: not in views, in statistics or in tables of Rung', async () => {
    const { columns, emptied } = await maskPersonal(admin)
    assert.deepEqual(
      columns.map(({ column, as }) => `${column} ${as}`),
      [
        'm.person.email email',
        'm.person.birth_date remove',
        'm.person.address remove',
        'm.person.password_hash remove',
        'm.person.phones remove',
        'm.person.tokenHash secret',
        'm.letter.of_person email',
        'm.letter.body text',
      ],
    )
    const { rows } = await sql.query(`
      select email ~ '^[0-9a-f]{16}@example.com$' as email, birth_date::text, address, password_hash, phones, body,
        email in (table emails) and email in (table emails_again) as seen
      from person join letter on of_person = email`)
    assert.equal(rows.length, 50, 'who is the same stays the same')
    const kept = { email: true, birth_date: '1970-01-01', address: {}, phones: null, body: 'xxx, xx x!', seen: true }
    const { password_hash: hash, ...first } = rows[0]
    assert.deepEqual(first, kept)
    assert.equal(hash.length, 0)
    const { rows: values } = await sql.query(
      `select s::text as values from pg_stats s where schemaname in ('m', 'rung')`,
    )
    assert.ok(values.length > 0, 'plans are those of the data')
    assert.deepEqual(
      values.filter(({ values }) => values.includes('real')),
      [],
    )
    const { rows: subscriptions } = await sql.query(
      `select subname from pg_subscription where subenabled or subconninfo <> ''`,
    )
    assert.deepEqual(subscriptions, [])
    await sql.query('checkpoint')
    const { rows: files } = await sql.query(
      `select strpos(encode(pg_read_binary_file(pg_relation_filepath('without_comments')), 'escape'), 'in no column') as at`,
    )
    assert.deepEqual(files, [{ at: 0 }], 'values of a dropped column are gone')
    const left = await Promise.all(emptied.map((table) => sql.query(`select from ${table}`)))
    assert.ok(left.every(({ rowCount }) => rowCount === 0))
  })

  it('has a decision for each table of Rung', async () => {
    const { rows } = await sql.query(
      `select relname as name from pg_class where relkind in ('r', 'p') and relnamespace = 'rung'::regnamespace`,
    )
    assert.deepEqual(rows.map(({ name }) => kindOf(name)).sort(), Object.keys(ownTables).sort())
  })
})
