import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { after, before, test } from 'node:test'
import { promisify } from 'node:util'
import { type Client, connectOnce } from '../../src/engines/postgres/client.ts'
import { isRungError } from '../../src/kernel/errors.ts'
import { checksumOf, type Migration } from '../../src/primitives/data/migrations.ts'
import { createTestDatabase, startTestServer, type TestDatabase, type TestServer } from '../../src/testing/server.ts'

let server: TestServer
let admin: Client
before(async () => {
  server = await startTestServer()
  admin = await connectOnce({ url: server.url.replace('//app@', '//rung@') })
})
after(async () => {
  await admin?.end()
  await server?.stop()
})

function migrationsFor(text: string): Migration[] {
  return [{ module: 'notes', name: '0001_note.sql', text, checksum: checksumOf(text), reads: [] }]
}
const plain = migrationsFor('create table note (id int primary key, at timestamptz not null default now())')

async function names(like: string): Promise<string[]> {
  const { rows } = await admin.query('select datname from pg_database where datname like $1 order by oid', [like])
  return rows.map(({ datname }) => datname)
}

async function ask<Row>({ url }: TestDatabase, text: string): Promise<Row[]> {
  const client = await connectOnce({ url })
  return client.query(text).then(
    ({ rows }) => client.end().then(() => rows as Row[]),
    (error) => client.end().then(() => Promise.reject(error)),
  )
}

test('databases are copies of one template, also when they are made at the same moment', async () => {
  const all = await Promise.all(Array.from({ length: 4 }, () => createTestDatabase(server.url, plain)))
  assert.equal((await names('rung_template_%')).length, 1)
  await ask(all[0]!, 'insert into notes.note (id) values (1)')
  assert.deepEqual(await ask(all[0]!, 'select id from notes.note'), [{ id: 1 }])
  assert.deepEqual(await ask(all[1]!, 'select id from notes.note'), [])
  for (const one of all) await one.drop()
  assert.deepEqual(await names('rung_test_%'), [])
})

test('a changed migration makes a template of its own', async () => {
  const changed = migrationsFor('create table note (id int primary key, text text)')
  const one = await createTestDatabase(server.url, changed)
  assert.deepEqual(await ask(one, 'select text from notes.note'), [])
  assert.equal((await names('rung_template_%')).length, 2)
  await one.drop()
})

test('a migration that fails leaves no template, and is tried again', async () => {
  const wrong = migrationsFor('create table note (id nothing)')
  for (let n = 0; n < 2; n += 1)
    await assert.rejects(createTestDatabase(server.url, wrong), (error) => isRungError(error, 'MIGRATION_FAILED'))
  assert.equal((await names('rung_template_%')).filter((name) => !name.endsWith('_draft')).length, 2)
})

test('what killed runs have left is removed with the next template, and what is in use is not', async () => {
  const longAgo = Math.floor(Date.now() / 1000 - 7_200).toString(36)
  const now = Math.floor(Date.now() / 1000).toString(36)
  const [left, fresh] = [`rung_test_${longAgo}_aaaaaaaaaaaa`, `rung_test_${now}_bbbbbbbbbbbb`]
  const used = `rung_test_${longAgo}_cccccccccccc`
  for (const name of [left, fresh, used]) await admin.query(`create database ${name} owner app`)
  const client = await connectOnce({ url: server.url.replace('/postgres?', `/${used}?`) })
  await (await createTestDatabase(server.url, migrationsFor('create table other (id int)'))).drop()
  assert.deepEqual(await names('rung_test_%'), [fresh, used])
  await client.end()
})

test('what killed runs have left is removed with the first database of a process, also where the template is there', async () => {
  await (await createTestDatabase(server.url, plain)).drop()
  const left = `rung_test_${Math.floor(Date.now() / 1000 - 7_200).toString(36)}_dddddddddddd`
  await admin.query(`create database ${left} owner app`)
  const module = new URL('../../src/testing/server.ts', import.meta.url).href
  const text = `const { createTestDatabase } = await import(${JSON.stringify(module)})
    await (await createTestDatabase(${JSON.stringify(server.url)}, ${JSON.stringify(plain)})).drop()`
  const options = ['--conditions=rung-source', '--input-type=module', '--eval', text]
  await promisify(execFile)(process.execPath, options)
  assert.deepEqual(await names(left), [])
})

test('a role that may not create databases is told what it needs', async () => {
  await admin.query('create role plain login')
  const url = server.url.replace('//app@', '//plain@')
  await assert.rejects(createTestDatabase(url, migrationsFor('select 1')), (error) => {
    assert.ok(isRungError(error, 'TEST_DATABASE'))
    assert.match(error.message, /permission denied to create database.*CREATEDB/)
    return true
  })
})
