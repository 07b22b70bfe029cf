import assert from 'node:assert/strict'
import { test } from 'node:test'
import { parseSql } from '../../src/engines/postgres/parser.ts'
import { type Finding, lintMigration, migrationRules, needsNoTransaction } from '../../src/migrations/lint.ts'

async function lint(text: string, reads: string[] = []): Promise<Finding[]> {
  const statements = await parseSql(text)
  return lintMigration({ file: '001.sql', text, statements, module: 'articles', reads })
}

const rulesOf = async (text: string): Promise<string[]> => [...new Set((await lint(text)).map(({ rule }) => rule))]

/** For each rule: files in which it alone finds something, and files that do the same work safely. */
const planted: Record<string, { bad: string[]; safe: string[] }> = {
  'column-volatile-default': {
    bad: [
      'alter table article add column x uuid default gen_random_uuid()',
      'alter table article add column x uuid not null default gen_random_uuid()',
      'alter table article add column x float default 1 + random()',
      'alter table article add x timestamptz default clock_timestamp()',
      'alter table article add column x int default articles.next_number()',
      'alter table if exists articles.article add column if not exists x text default public.lower($$A$$)',
    ],
    safe: [
      'alter table article add column x timestamptz not null default now()',
      'alter table article add column x timestamptz not null default current_timestamp',
      "alter table article add column x text default lower('A') || 'b', add column y int[] not null default '{}'",
      'alter table article add column x timestamp default timezone($$utc$$, now())',
      "alter table article add column x timestamp default (now() at time zone 'utc')",
      'alter table article add column x uuid; alter table article alter column x set default gen_random_uuid()',
      'create table article (id uuid default gen_random_uuid()); alter table article add x uuid default gen_random_uuid()',
    ],
  },
  'column-not-null': {
    bad: ['alter table article add column x int not null'],
    safe: ['alter table article add column x int not null default 0', 'alter table article add column x int'],
  },
  'column-generated': {
    bad: [
      'alter table article add column x int generated always as (id + 1) stored',
      'alter table article alter column x set expression as (id + 2)',
    ],
    safe: ['alter table article add column x int generated always as (id + 1) virtual'],
  },
  'column-serial': {
    bad: [
      'alter table article add column x bigserial',
      'alter table article add column x serial not null',
      'alter table article add column x bigint generated always as identity',
    ],
    safe: [
      "alter table article add x bigint; create sequence s owned by article.x; alter table article alter x set default nextval('s')",
    ],
  },
  'column-type': {
    bad: [
      'alter table article alter column x type bigint',
      'alter table article alter x set data type text using x::text',
    ],
    safe: ['alter table article add column x_new bigint'],
  },
  'set-not-null': {
    bad: [
      'alter table article alter column x set not null',
      'alter table other validate constraint x_present; alter table article alter column x set not null',
      'alter table article alter column x set not null; alter table article validate constraint x_present',
      'alter table article add constraint x_present not null x',
    ],
    safe: [
      `alter table article validate constraint x_present;
       alter table articles.article alter column x set not null;
       alter table article drop constraint x_present`,
      'alter table article add constraint x_present not null x not valid',
      'alter table article alter column x drop not null',
    ],
  },
  'check-not-valid': {
    bad: [
      'alter table article add constraint positive check (x > 0)',
      'alter table article add check (x > 0)',
      'alter table article add column x int check (x > 0)',
      'alter domain email add constraint has_at check (position($$@$$ in value) > 0)',
      'alter domain email set not null',
      'alter domain email add constraint present not null',
    ],
    safe: [
      'alter table article add constraint positive check (x > 0) not valid',
      'alter table article add constraint positive check (x > 0) not enforced',
      'alter table article add column x int; alter table article add constraint positive check (x > 0) not valid',
      'alter domain email add constraint has_at check (position($$@$$ in value) > 0) not valid',
      'alter table article validate constraint positive',
      'alter domain email validate constraint has_at',
      'alter domain email drop not null',
    ],
  },
  'foreign-key-not-valid': {
    bad: [
      'alter table article add constraint of_author foreign key (author) references author (id)',
      'alter table article add column author int default 1 references author',
      'alter table article alter constraint of_author enforced',
    ],
    safe: [
      'alter table article add constraint of_author foreign key (author) references author (id) not valid',
      'alter table article validate constraint of_author',
      'alter table article add column author int references author',
      'alter table article alter constraint of_author deferrable',
      'create table comment (article int not null references article)',
    ],
  },
  'validate-apart': {
    bad: [
      'alter table article add constraint k check (x > 0) not valid; alter table article validate constraint k',
      'alter table article add constraint k check (x > 0) not valid, validate constraint k',
    ],
    safe: [
      'alter table article add constraint k check (x > 0) not valid; alter table article validate constraint older',
      'create table t (x int); alter table t add constraint k check (x > 0) not valid; alter table t validate constraint k',
    ],
  },
  'unique-using-index': {
    bad: [
      'alter table article add constraint slug_once unique (slug)',
      'alter table article add primary key (id)',
      'alter table article add column slug text unique',
    ],
    safe: [
      'alter table article add constraint slug_once unique using index slug_once',
      'alter table article add constraint article_pkey primary key using index article_pkey',
    ],
  },
  'exclusion-constraint': {
    bad: ['alter table booking add constraint no_overlap exclude using gist (room with =, during with &&)'],
    safe: ['create table booking (during tstzrange, exclude using gist (during with &&))'],
  },
  'index-concurrently': {
    bad: [
      'create index on article (author)',
      'create unique index article_slug on articles.article (slug)',
      'create table if not exists article (id int); create index on article (id)',
      'create index on article (id); create table article (id int)',
      'create view article as select 1; create index on article (id)',
    ],
    safe: [
      'create index concurrently article_author on article (author)',
      'create unique index concurrently article_slug on article (slug)',
      'create table article (id int); create index on article (id)',
      'create table articles.article (id int); create index on article (id)',
      'create table article as select 1 as id; create index on articles.article (id)',
      'create table draft (id int); alter table draft rename to article; create index on article (id)',
    ],
  },
  'drop-index-concurrently': {
    bad: ['drop index article_slug', 'drop index if exists articles.article_slug cascade'],
    safe: [
      'drop index concurrently article_slug',
      'create table article (id int); create index i on article (id); drop index i',
    ],
  },
  'reindex-concurrently': {
    bad: ['reindex table article', 'reindex index article_slug', 'reindex schema articles'],
    safe: ['reindex table concurrently article', 'reindex (concurrently, verbose) index article_slug'],
  },
  'attach-partition': {
    bad: ['alter table event attach partition event_2026 for values in (2026)'],
    safe: [
      'alter index event_at attach partition event_2026_at',
      'create table event_2026 (year int); alter table event attach partition event_2026 for values in (2026)',
      'alter table event_2026 validate constraint in_bounds; alter table event attach partition event_2026 for values in (2026)',
    ],
  },
  'detach-partition-concurrently': {
    bad: ['alter table event detach partition event_2026'],
    safe: [
      'alter table event detach partition event_2026 concurrently',
      'alter table event detach partition event_2026 finalize',
    ],
  },
  'table-rewrite': {
    bad: [
      'vacuum full article',
      'vacuum (full, analyze) article',
      'vacuum full',
      'cluster article using article_pkey',
      'cluster',
      'alter table article set unlogged',
      'alter table article set logged',
      'alter table article set tablespace fast',
      'alter table article set access method columnar',
      'alter table all in tablespace slow set tablespace fast',
    ],
    safe: ['vacuum article', 'analyze article', 'alter table article set (fillfactor = 70)'],
  },
  'materialized-view': {
    bad: [
      'refresh materialized view top',
      'alter table article add column x int; create materialized view top as select * from article',
      'alter table article add x int; create materialized view t as select 1 with no data; refresh materialized view t',
    ],
    safe: [
      'refresh materialized view concurrently top',
      'create materialized view top as select * from article',
      'create materialized view top as select 1 as id; create unique index on top (id); refresh materialized view top',
      'alter table article add column x int; create materialized view top as select * from article with no data',
    ],
  },
  'breaks-running-code': {
    bad: [
      'drop table article',
      'drop view top',
      'drop view top; create view top as select 1',
      'drop schema articles cascade',
      'drop type status',
      'drop sequence s',
      'alter table article drop column title',
      'alter table article rename column title to heading',
      'alter table article rename to post',
      'alter view top rename to best',
      'alter type status rename to state',
      "alter type status rename value 'draft' to 'wip'",
      'alter table article set schema articles',
      'drop table article; create table article (id int)',
      'drop table article; create view article as select 1',
      'alter table article rename to old; create table article (id int)',
    ],
    safe: [
      'alter index article_slug rename to post_slug',
      'alter table article rename constraint a to b',
      'alter table article drop constraint a',
      'drop trigger t on article',
      'drop function f(int)',
      'create table draft (id int, x int); alter table draft drop column x; drop table draft',
    ],
  },
  truncate: {
    bad: ['truncate article, comment'],
    safe: ['create table article (id int); truncate article'],
  },
  'lock-table': {
    bad: ['lock table article in exclusive mode'],
    safe: ['create table article (id int); lock table article'],
  },
  'backfill-in-batches': {
    bad: [
      'update article set x = 1',
      'delete from article where true',
      'delete from article where exists (select 1)',
      'with gone as (delete from article returning *) select count(*) from gone',
      'insert into log with gone as (update article set x = 1 returning id) select id from gone',
    ],
    safe: [
      'update article set x = 1 where id in (select id from article where x is null limit 1000)',
      'create table t (id int); insert into t select 1; update t set id = 2',
      'create function f() returns void language sql begin atomic update article set x = 1; end',
    ],
  },
  'enum-value-used': {
    bad: [
      "alter type status add value 'draft'; update article set status = 'draft' where id = 1",
      "alter type status add value 'draft'; alter table article alter column status set default 'draft'",
    ],
    safe: [
      "alter type status add value if not exists 'draft' before 'live'; update article set status = 'live' where id = 1",
      "create type status as enum ('live'); alter type status add value 'draft'; create table t (s status default 'draft')",
    ],
  },
  opaque: {
    bad: ['do $$ begin drop table article; end $$', 'call rebuild()', 'execute later'],
    safe: [
      `create function touch() returns trigger language plpgsql as $$ begin new.at = now(); return new; end $$;
       create trigger touch before update on article for each row execute function touch()`,
    ],
  },
  'module-boundary': {
    bad: [
      'alter table comments.comment add column x int',
      'create table t (id int references users.account)',
      'create view v as select * from users.account',
      'create schema other',
      'create type comments.status as enum ()',
      'insert into t select id from comments.comment',
      "set search_path = 'comments'",
      'set local search_path to comments, articles',
    ],
    safe: [
      'alter table articles.article add column x int',
      'create schema if not exists articles',
      'select 1 from pg_class',
    ],
  },
  'transaction-control': {
    bad: ['begin; alter table article add x int; commit', 'savepoint a', 'start transaction'],
    safe: ['alter table article add x int; alter table article add y int'],
  },
  'concurrently-named': {
    bad: ['create unique index concurrently on article (author)'],
    safe: ['create index concurrently if not exists article_author on article (author)'],
  },
  'concurrently-alone': {
    bad: [
      'create index concurrently a on article (a); create index concurrently b on article (b)',
      'create table t (id int); create index concurrently t_id on t (id)',
      'alter table article add x int; vacuum article',
      'set local lock_timeout = 0; drop index concurrently article_slug',
    ],
    safe: [
      '-- one\ncreate index concurrently a on article (a);\n-- done',
      'alter table article add x int; analyze article',
    ],
  },
}

test('each rule has a planted example', () => {
  assert.deepEqual(Object.keys(planted).sort(), migrationRules.map(({ name }) => name).sort())
})

for (const [rule, { bad, safe }] of Object.entries(planted)) {
  for (const sql of bad) test(`${rule} refuses: ${sql}`, async () => assert.deepEqual(await rulesOf(sql), [rule]))
  for (const sql of safe) test(`${rule} passes: ${sql}`, async () => assert.deepEqual(await rulesOf(sql), []))
}

test('a finding says where, what locks, and the safe SQL', async () => {
  const [finding, ...more] = await lint('select 1;\n\nalter table article add constraint once unique ("Slug")')
  assert.deepEqual(more, [])
  assert.deepEqual(finding, {
    rule: 'unique-using-index',
    file: '001.sql',
    line: 3,
    message:
      'Postgres builds the index on article under an ACCESS EXCLUSIVE lock: it cannot be read or written meanwhile.',
    advice:
      'Build the index first, then make it the constraint:\n' +
      '-- file 1\ncreate unique index concurrently once on article ("Slug");\n' +
      '-- file 2\nalter table article add constraint once unique using index once;',
  })
})

test('lines are right within one statement and after multi-byte text', async () => {
  const findings = await lint(`-- ünïcödé 𝄞𝄞𝄞
comment on table article is '𝄞
é';
alter table article
  add column "é" int default 1 references author,
  add column b text
    unique,
  alter column c type text;
truncate article -- 𝄞`)
  assert.deepEqual(
    findings.map(({ line, rule }) => `${line} ${rule}`),
    ['5 foreign-key-not-valid', '7 unique-using-index', '8 column-type', '9 truncate'],
  )
})

test('one statement may break several rules, and several tables break one rule each', async () => {
  assert.deepEqual((await rulesOf('alter table a add x serial unique, drop column y')).sort(), [
    'breaks-running-code',
    'column-serial',
    'unique-using-index',
  ])
  const tables = (await lint('create table b (); truncate a, b, c')).map(
    ({ message }) => message.match(/of (\w+) are removed/)![1],
  )
  assert.deepEqual(tables, ['a', 'c'])
})

test('a renamed table is as large as before', async () => {
  const text =
    'alter table article rename to post; create view article as select * from post; create index on post (id)'
  assert.deepEqual((await rulesOf(text)).sort(), ['breaks-running-code', 'index-concurrently'])
})

test('declared reads let a migration refer, not write', async () => {
  const view = 'create view v as select * from users.account; create table t (u int references users.account)'
  assert.deepEqual(await lint(view, ['users']), [])
  const [finding] = await lint('alter table users.account add column x int', ['users'])
  assert.equal(finding?.rule, 'module-boundary')
})

test('an override with a reason keeps the finding, with the reason', async () => {
  for (const comment of ['-- rung:allow truncate a cache, 20 rows ', '--rung:allow  truncate\ta cache, 20 rows\r']) {
    for (const text of [`${comment}\ntruncate article`, `select E'it\\'s';\ntruncate article; ${comment}`]) {
      const [finding, ...more] = await lint(text)
      assert.equal(finding?.overridden, 'a cache, 20 rows')
      assert.deepEqual(more, [])
    }
  }
  const findings = await lint('-- rung:allow truncate a cache\ntruncate a; truncate b; lock table a')
  assert.deepEqual(
    findings.map(({ rule, overridden }) => [rule, overridden]),
    [
      ['truncate', 'a cache'],
      ['truncate', 'a cache'],
      ['lock-table', undefined],
    ],
  )
})

test('an override without a reason lifts nothing', async () => {
  const findings = await lint('truncate article;\n-- rung:allow truncate')
  assert.deepEqual(
    findings.map(({ rule, line, overridden }) => [rule, line, overridden]),
    [['truncate', 1, undefined]],
  )
})

test('what Postgres itself would refuse cannot be overridden', async () => {
  const findings = await lint('-- rung:allow transaction-control I want to\ncommit')
  assert.deepEqual(
    findings.map(({ rule, overridden }) => [rule, overridden]),
    [['transaction-control', undefined]],
  )
})

test('needsNoTransaction knows what Postgres refuses in a transaction', async () => {
  const alone = [
    'create index concurrently on a (b)',
    'drop index concurrently i',
    'reindex table concurrently a',
    'reindex (concurrently) index i',
    'reindex schema s',
    'alter table a detach partition b concurrently',
    'vacuum a',
    'vacuum (full) a',
    'cluster',
    'create database d',
    'drop database d',
    "create tablespace t location '/t'",
    'alter system set work_mem = 1',
    "create subscription s connection '' publication p",
  ]
  const together = [
    'create index on a (b)',
    'drop index i',
    'reindex table a',
    'refresh materialized view concurrently m',
    'alter table a detach partition b',
    'analyze a',
    'cluster a',
    "alter type t add value 'x'",
  ]
  for (const sql of alone) assert.equal(needsNoTransaction(await parseSql(`select 1; ${sql}`)), true, sql)
  for (const sql of together) assert.equal(needsNoTransaction(await parseSql(sql)), false, sql)
})

test('the advice is the statement itself, with its columns and conditions', async () => {
  const advised: [text: string, advice: string][] = [
    [
      'create index on article (author, lower(title))',
      'create index concurrently article_author_expr_idx on article (author, lower(title));',
    ],
    [
      '-- an index\ncreate unique index if not exists "Slug" on articles.article (slug) where (id > 0)',
      'create unique index concurrently if not exists "Slug" on articles.article (slug) where (id > 0);',
    ],
    [
      "alter table article add constraint c check (note <> ')' and (id > 0)) no inherit",
      "add constraint c check (note <> ')' and (id > 0)) not valid;",
    ],
    ['/* 😀 */ alter table article add column x int check (x > 0)', 'check (x > 0) not valid;'],
    [
      'alter table article add column x int generated always as (id + 1) stored',
      'generated always as (id + 1) virtual;',
    ],
    ['alter domain slug add check (length(value) > 3)', 'check (length(value) > 3) not valid;'],
  ]
  for (const [text, advice] of advised) {
    const [finding] = await lint(text)
    assert.ok(finding!.advice.includes(advice), finding!.advice)
    assert.doesNotMatch(finding!.advice, /…/)
  }
})
