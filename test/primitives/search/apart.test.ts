import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { type ConnectionConfig, connectOnce } from '../../../src/engines/postgres/client.ts'
import { isRungError } from '../../../src/kernel/errors.ts'
import { migrate } from '../../../src/migrations/migrate.ts'
import type { Database } from '../../../src/primitives/data/contract.ts'
import { createData } from '../../../src/primitives/data/data.ts'
import type { SqlTag } from '../../../src/primitives/data/sql.ts'
import { apartSearch } from '../../../src/primitives/search/apart.ts'
import { defineIndex, type Indexing, indexingIn, searchFor } from '../../../src/primitives/search/search.ts'
import { tableSearch } from '../../../src/primitives/search/table.ts'
import { systemMigrations } from '../../../src/runtime/migrations.ts'
import { openPostgres, openSystemTables } from '../../support/data.ts'
import { ownPostgres, type TestPostgres, testPostgres } from '../../support/postgres.ts'

const articles = defineIndex('articles', { language: 'english', fields: { title: { weight: 'A' } } })
const other = defineIndex('other', { language: 'english', fields: { title: {} } })

let postgres: TestPostgres
before(async () => {
  postgres = await testPostgres()
})
after(() => postgres.stop())

type Tx = SqlTag & Indexing

/** One process of the app. */
function openProcess(core: Database, connection: ConnectionConfig, target: Database, waitMsMax?: number) {
  const store = apartSearch({
    core,
    target,
    documents: tableSearch(target),
    prepare: () => migrate({ connection, migrations: systemMigrations }),
    ...(waitMsMax !== undefined && { waitMsMax }),
  })
  const data = createData<Tx>(core, { extend: (riding) => indexingIn(riding, store) }).forModule('m')
  const search = searchFor('m', store)
  return {
    store,
    search,
    data,
    put: (id: string | number, title: string) => data.write(async (tx) => tx.index(articles, id, { title })),
    ids: async (text: string) => (await search.find(articles, { text })).hits.map(({ id }) => id),
    rebuild: (documents: Record<string, string>) =>
      search.rebuild(articles, async function* () {
        yield Object.entries(documents).map(([id, title]) => ({ id, document: { title } }))
      }),
  }
}

async function openBoth(server: TestPostgres = postgres, waitMsMax?: number) {
  const { database: core, connection: coreConnection } = await openSystemTables(postgres)
  const connection = await server.createDatabase()
  const target = await openPostgres(server, { connection })
  const close = async () => {
    await core.close()
    await target.close()
  }
  return { core, coreConnection, connection, target, close, ...openProcess(core, connection, target, waitMsMax) }
}

async function waiting(connection: ConnectionConfig): Promise<number> {
  return Number((await runOnce(connection, 'select count(*) from rung.search_pending'))[0]!.count)
}

async function runOnce(connection: ConnectionConfig, statement: string): Promise<Record<string, unknown>[]> {
  const client = await connectOnce(connection)
  try {
    return (await client.query(statement)).rows
  } finally {
    await client.end()
  }
}

const isCode = (code: string) => (error: unknown) => isRungError(error, code as 'SEARCH_LOST')

test('one process finds what another has written, and documents are in the search database alone', async () => {
  const one = await openBoth()
  const two = openProcess(one.core, one.connection, one.target)
  await one.put(1, 'A lighthouse')
  assert.equal(await waiting(one.coreConnection), 1)
  assert.deepEqual(await two.ids('lighthouse'), ['1'])
  assert.equal(await waiting(one.coreConnection), 0)
  assert.deepEqual(await runOnce(one.coreConnection, 'select from rung.search_index'), [])
  await one.data.write(async (tx) => tx.unindex(articles, 1))
  assert.deepEqual(await two.ids('lighthouse'), [])
  await one.close()
})

test('while the search database is gone, writes commit, searches fail with a code, and nothing is lost', async () => {
  const server = await ownPostgres()
  const app = await openBoth(server)
  await app.put(1, 'harbour')
  assert.deepEqual(await app.ids('harbour'), ['1'])
  await server.stop()
  await app.put(2, 'candle')
  await assert.rejects(app.ids('harbour'), isCode('SEARCH_BEHIND'))
  assert.equal(await waiting(app.coreConnection), 1)
  await app.close()
})

test('a search database that hangs delays no write, and a search for a bounded time', async () => {
  const app = await openBoth(postgres, 300)
  await app.put(1, 'harbour')
  assert.deepEqual(await app.ids('harbour'), ['1'])
  const hang = await connectOnce(app.connection)
  await hang.query('begin; lock table rung.search_fed')
  await app.put(1, 'candle')
  await assert.rejects(app.ids('harbour'), isCode('SEARCH_BEHIND'))
  await hang.query('commit')
  await hang.end()
  await app.store.feed()
  assert.deepEqual(await app.ids('candle'), ['1'])
  assert.deepEqual(await app.ids('harbour'), [])
  await app.close()
})

test('the last change of each document wins while several processes feed and their connections are cut', async () => {
  const app = await openBoth()
  const processes = [
    app,
    openProcess(app.core, app.connection, app.target),
    openProcess(app.core, app.connection, app.target),
  ]
  await app.put('first', 'first')
  await app.store.feed()
  let writes = true
  const feeding = processes.map(async ({ store }) => {
    while (writes) await store.feed().catch(() => {})
  })
  const word = (n: number) => `word${String.fromCharCode(97 + (n % 26), 97 + Math.floor(n / 26))}`
  const last = new Map<number, number>()
  for (let n = 0; n < 300; n += 1) {
    const id = n % 7
    await processes[n % 3]!.put(id, word(n))
    last.set(id, n)
    if (n % 60 !== 59) continue
    // In the search database anywhere in a batch, and in the app's between the batch and its confirmation.
    const cut = (text: string) =>
      `select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid() and query ~ '${text}'`
    await runOnce({ ...app.connection, user: postgres.admin.user! }, cut('search_fed|search_change|begin|commit'))
    await runOnce({ ...app.coreConnection, user: postgres.admin.user! }, cut('search_confirm'))
  }
  writes = false
  await Promise.all(feeding)
  await app.store.feed().catch(() => app.store.feed()) // the first may meet a connection that was cut
  for (const [id, n] of last) assert.deepEqual(await app.ids(word(n)), [String(id)])
  assert.equal((await runOnce(app.connection, 'select generation from rung.search_generation')).length, 1)
  const [{ generation }] = (await runOnce(app.connection, 'select generation from rung.search_generation')) as [
    { generation: number },
  ]
  const rows = await runOnce(app.connection, `select id from rung.search_${generation}`)
  assert.equal(rows.length, 8)
  assert.equal(await waiting(app.coreConnection), 0)
  await app.close()
})

test('a search database that was emptied is noticed, refuses what is incomplete, and is filled by a rebuild', async () => {
  const app = await openBoth()
  await app.put(1, 'harbour')
  assert.deepEqual(await app.ids('harbour'), ['1'])
  await runOnce(app.connection, 'drop schema rung cascade')
  await assert.rejects(app.ids('harbour'), isCode('SEARCH_LOST'))
  await app.put(2, 'bridge')
  await assert.rejects(app.ids('bridge'), isCode('SEARCH_LOST'))
  await app.data.write(async (tx) => tx.index(other, 1, { title: 'new' }))
  assert.equal((await app.search.find(other, { text: 'new' })).total, 1, 'an index that began afterwards is whole')
  assert.equal(await app.rebuild({ 1: 'harbour', 2: 'bridge' }), 2)
  assert.deepEqual(await app.ids('harbour'), ['1'])
  assert.deepEqual(await app.ids('bridge'), ['2'])
  await app.close()
})

test('a search database that was restored from an older state is noticed', async () => {
  const app = await openBoth()
  await app.put(1, 'harbour')
  assert.deepEqual(await app.ids('harbour'), ['1'])
  await app.target.close()
  const old = await copyOf(app.connection)
  const target = await openPostgres(postgres, { connection: app.connection })
  const same = openProcess(app.core, app.connection, target)
  await same.put(2, 'bridge')
  assert.deepEqual(await same.ids('bridge'), ['2'])
  const oldTarget = await openPostgres(postgres, { connection: old })
  const restored = openProcess(app.core, old, oldTarget)
  await assert.rejects(restored.ids('harbour'), isCode('SEARCH_LOST'))
  await restored.rebuild({ 1: 'harbour', 2: 'bridge' })
  assert.deepEqual(await restored.ids('bridge'), ['2'])
  await target.close()
  await oldTarget.close()
  await app.core.close()
})

async function copyOf(connection: ConnectionConfig): Promise<ConnectionConfig> {
  const database = `${connection.database}_old`
  await runOnce(postgres.admin, `create database ${database} template ${connection.database} owner app`)
  return { ...connection, database }
}

test('an index that was filled before search moved away is refused until it is rebuilt', async () => {
  const app = await openBoth()
  const before = tableSearch(app.core)
  const data = createData<Tx>(app.core, { extend: (riding) => indexingIn(riding, before) }).forModule('m')
  await data.write(async (tx) => tx.index(articles, 1, { title: 'harbour' }))
  await assert.rejects(app.ids('harbour'), isCode('SEARCH_LOST'))
  await app.put(2, 'bridge')
  await assert.rejects(app.ids('bridge'), isCode('SEARCH_LOST'))
  await app.rebuild({ 1: 'harbour', 2: 'bridge' })
  assert.deepEqual(await app.ids('harbour'), ['1'])
  await app.close()
})

test('a rebuild that a loss interrupts does not make the index whole', async () => {
  const app = await openBoth()
  await app.put(1, 'harbour')
  assert.deepEqual(await app.ids('harbour'), ['1'])
  await assert.rejects(
    app.search.rebuild(articles, async function* () {
      yield [{ id: 1, document: { title: 'harbour' } }]
      await runOnce(app.connection, 'drop schema rung cascade')
      await app.store.feed()
      yield [{ id: 2, document: { title: 'bridge' } }]
    }),
  )
  await assert.rejects(app.ids('harbour'), isCode('SEARCH_LOST'))
  await app.close()
})
