import assert from 'node:assert/strict'
import { test } from 'node:test'
import { parseSql } from '../../../src/engines/postgres/parser.ts'
import type { RungError } from '../../../src/kernel/errors.ts'
import {
  foreignTables,
  type Owner,
  schemaOf,
  type Touched,
  touched,
  touchedTables,
} from '../../../src/primitives/data/boundary.ts'

/** Each name as text: `r` reads, `w` writes, `f` refers to, `c` calls. */
function asText({ schema, table, access }: Touched): string {
  const letter = { read: 'r', write: 'w', reference: 'f', call: 'c' }[access ?? 'read']
  return `${letter} ${schema === undefined ? '' : `${schema}.`}${table}`
}

async function tablesOf(sql: string): Promise<string[]> {
  const [statement] = await parseSql(sql)
  return touchedTables(statement!.ast).map(asText).sort()
}

async function violationsOf(sql: string, owner: Partial<Owner> = {}): Promise<string[]> {
  const statements = await parseSql(sql)
  const names = statements.flatMap(({ ast }) => touched(ast))
  return foreignTables(names, { module: 'comments', reads: [], ...owner }).map(({ message }) => message)
}

const tables: Record<string, string[]> = {
  // reads
  'select 1': [],
  'select * from a.x': ['r a.x'],
  'table a.x': ['r a.x'],
  'select * from a.x, x.y as z join b.q on true left join lateral (select * from c.r) s on true': [
    'r a.x',
    'r b.q',
    'r c.r',
    'r x.y',
  ],
  'select (select max(n) from a.x) from b.y where id in (select id from c.z) and exists (select from d.w)': [
    'r a.x',
    'r b.y',
    'r c.z',
    'r d.w',
  ],
  'select * from a.x union all (select * from b.y except select * from c.z)': ['r a.x', 'r b.y', 'r c.z'],
  'select * from a.x tablesample system (10)': ['r a.x'],
  'select * from a.f(1) as g, unnest($1::int[]) u': [],
  'select * from rows from (a.f(1), generate_series(1, 2))': [],
  'select case when exists (select from a.x) then 1 end order by (select 1 from b.y)': ['r a.x', 'r b.y'],
  'select * from (values (1), ((select n from a.x))) v(n)': ['r a.x'],
  'explain analyze select * from a.x': ['r a.x'],
  'copy a.x to stdout': ['r a.x'],
  'copy (select * from a.x) to stdout': ['r a.x'],
  'declare c cursor for select * from a.x': ['r a.x'],
  // locking is writing
  'select * from a.x join b.y on true for update': ['w a.x', 'w b.y'],
  'select * from a.x as p join b.y on true for no key update of p skip locked': ['r b.y', 'w a.x'],
  'select * from (select * from a.x) s for share': ['w a.x'],
  // writes
  'insert into a.x select * from b.y': ['r b.y', 'w a.x'],
  'insert into a.x values ($1) on conflict (id) do update set n = (select 1 from b.y) returning *': ['r b.y', 'w a.x'],
  'update a.x set n = y.n from b.y where x.id = y.id': ['r b.y', 'w a.x'],
  'delete from a.x using b.y where id in (select id from c.z)': ['r b.y', 'r c.z', 'w a.x'],
  'merge into a.x t using (select * from b.y) s on t.id = s.id when matched then update set n = (select 1 from c.z)': [
    'r b.y',
    'r c.z',
    'w a.x',
  ],
  'copy a.x from stdin': ['w a.x'],
  'truncate a.x, b.y': ['w a.x', 'w b.y'],
  'lock table a.x in share mode': ['w a.x'],
  'select * into a.x from b.y': ['r b.y', 'w a.x'],
  'select 1 into a.x from b.y union select 2 from c.z': ['r b.y', 'r c.z', 'w a.x'],
  // CTEs
  'with x as (select * from a.t) select * from x join a.y on true': ['r a.t', 'r a.y'],
  'with x as (select 1), y as (select * from x) select * from y': [],
  'with y as (select * from x), x as (select 1) select * from x, y': ['r x'],
  'with recursive y as (select * from x), x as (select 1) select * from x, y': [],
  'with x as (select * from x) select * from x': ['r x'],
  'with recursive x as (select 1 union all select * from x) select * from x': [],
  'with x as (select 1) select * from a.x': ['r a.x'],
  'with x as (select 1) select (select 1 from x where exists (select from x))': [],
  'select (with x as (select 1) select * from x), (select 1 from x)': ['r x'],
  'select * from (with x as (select 1) select * from x) s join x on true': ['r x'],
  'with x as (select 1) (with y as (select * from x) select * from y, x) union select * from y': ['r y'],
  'with x as (insert into a.t values (1) returning id) delete from a.y using x where y.id = x.id': ['w a.t', 'w a.y'],
  'with x as (select 1) insert into x select * from x': ['w x'],
  'with x as (select 1) update a.y set n = 1 where id in (select * from x)': ['w a.y'],
  'with x as (select * from a.t) select * from x for update': ['r a.t'],
  // definitions
  'create table a.x (id int primary key, y int references b.y, foreign key (id) references c.z (id))': [
    'f b.y',
    'f c.z',
    'w a.x',
  ],
  'create temp table x (id int)': [],
  'create table a.x (like b.y including all)': ['r b.y', 'w a.x'],
  'create table a.p partition of a.x for values in (1)': ['w a.p', 'w a.x'],
  'create table a.x as select * from b.y': ['r b.y', 'w a.x'],
  'create view a.v as with q as (select * from b.y) select * from q': ['r b.y', 'w a.v'],
  'create materialized view a.m as select * from b.y': ['r b.y', 'w a.m'],
  'refresh materialized view a.m': ['w a.m'],
  'alter table a.x add column y int, add constraint k foreign key (y) references b.y': ['f b.y', 'w a.x'],
  'alter table a.x rename to y': ['w a.x'],
  'create unique index on a.x (id) where exists (select from b.y)': ['r b.y', 'w a.x'],
  'create trigger t after insert on a.x for each row execute function b.f()': ['w a.x'],
  'create policy p on a.x using (id in (select id from b.y))': ['r b.y', 'w a.x'],
  'create rule r as on insert to a.x do also insert into b.y values (new.id)': ['w a.x', 'w b.y'],
  'create sequence a.s': ['w a.s'],
  'create function a.f() returns int language sql begin atomic select n from b.y; end': ['r b.y'],
  'drop table a.x, y': ['w a.x', 'w y'],
  'drop index concurrently a.i': ['w a.i'],
  'drop trigger t on a.x': ['w a.x'],
  "comment on column a.x.n is 'n'": ['w a.x'],
  "comment on table a.x is 'x'": ['w a.x'],
  'grant select on a.x to someone': ['w a.x'],
  'vacuum full a.x': ['w a.x'],
}

for (const [sql, expected] of Object.entries(tables)) {
  test(`touches ${JSON.stringify(expected)}: ${sql}`, async () => {
    assert.deepEqual(await tablesOf(sql), expected)
  })
}

test('functions, types and schemas are touched where they are named with a schema', async () => {
  const names = async (sql: string) => touched((await parseSql(sql))[0]!.ast).map(asText)
  assert.deepEqual(await names('select a.f($1::b.t, now(), pg_catalog.lower($2))'), ['c a.f', 'f b.t'])
  assert.deepEqual(await names('create table c.x (s a.status)'), ['w c.x', 'f a.status'])
  assert.deepEqual(await names('drop type a.status'), ['w a.status'])
  assert.deepEqual(await names('drop function a.f(int)'), ['w a.f'])
  assert.deepEqual(await names('create function a.f() returns int return 1'), ['w a.f'])
  assert.deepEqual(await names("alter type a.status add value 'x'"), ['w a.status'])
  assert.deepEqual(await names('drop schema a'), ['w a.*'])
  assert.deepEqual(await names('create schema a'), ['w a.*'])
  assert.deepEqual(await names('alter schema a rename to b'), ['w a.*'])
  assert.deepEqual(await names('alter table c.x set schema a'), ['w a.*', 'w c.x'])
})

test('a table of another module needs a declaration to read, and is never written', async () => {
  const read = 'select * from comments.comment join articles.article on true'
  assert.deepEqual(await violationsOf(read), [
    'Module "comments" reads "articles.article", which belongs to module "articles". Call what that module exposes, ' +
      "or declare reads: ['articles'] (which pins both to one database).",
  ])
  assert.deepEqual(await violationsOf(read, { reads: ['articles'] }), [])
  const [write, ...more] = await violationsOf('update articles.article set title = $1', { reads: ['articles'] })
  assert.match(write!, /^Module "comments" writes to "articles.article", which belongs to module "articles"/)
  assert.deepEqual(more, [])
  const [lock] = await violationsOf('select * from articles.article for update', { reads: ['articles'] })
  assert.match(lock!, /writes to "articles.article"/)
  const [call] = await violationsOf('select articles.publish($1)')
  assert.match(call!, /calls "articles.publish"/)
  const [refer] = await violationsOf('create table comments.c (a int references articles.article)')
  assert.match(refer!, /refers to "articles.article"/)
})

test('names map between modules and schemas', async () => {
  assert.equal(schemaOf('user-profiles'), 'user_profiles')
  assert.deepEqual(await violationsOf('select * from user_profiles.profile', { module: 'user-profiles' }), [])
  assert.deepEqual(await violationsOf('select * from user_profiles.profile', { reads: ['user-profiles'] }), [])
  const [message] = await violationsOf('select * from user_profiles.profile')
  assert.match(message!, /belongs to module "user-profiles".*reads: \['user-profiles'\]/)
})

test('an unqualified name is refused in a statement and the own one in a migration', async () => {
  const sql = 'select * from comment'
  assert.deepEqual(await violationsOf(sql), [
    '"comment" has no schema, so whose it is depends on the connection: write "comments.comment".',
  ])
  assert.deepEqual(await violationsOf(sql, { unqualified: 'own' }), [])
})

test("Postgres's own relations are everybody's, and public is nobody's", async () => {
  assert.deepEqual(await violationsOf('select * from pg_class, pg_catalog.pg_type, information_schema.tables'), [])
  assert.deepEqual(await violationsOf('select public.similarity($1, $2)'), [])
  const [message] = await violationsOf('select * from public.comment')
  assert.match(message!, /belongs to no module. Put it into the schema "comments"/)
})

test('statements keep their text, offset and line, in JavaScript units', async () => {
  const text = '-- ünïcödé 𝄞\nselect \'é𝄞\';\n\n/* a /* b */ ; */ select $1::text -- 𝄞;\n  as "ü";\n;\ndelete from x'
  const statements = await parseSql(text)
  assert.deepEqual(
    statements.map(({ line }) => line),
    [2, 4, 7],
  )
  for (const statement of statements) assert.ok(text.startsWith(statement.text, statement.offset))
  assert.deepEqual(
    statements.map(({ text }) => text),
    ["select 'é𝄞'", 'select $1::text -- 𝄞;\n  as "ü"', 'delete from x'],
  )
  assert.deepEqual(await parseSql(''), [])
  assert.deepEqual(await parseSql(' \n-- nothing'), [])
})

test('bad SQL says where', async () => {
  await assert.rejects(parseSql("select '𝄞';\n  'é' selct"), (error: RungError) => {
    assert.equal(error.code, 'DATA_STATEMENT')
    assert.deepEqual(error.facts, { line: 2, column: 3, offset: 15 })
    assert.match(error.message, /^The SQL is wrong at line 2, column 3: syntax error at or near "'é'"/)
    return true
  })
})
