import assert from 'node:assert/strict'
import { fork } from 'node:child_process'
import path from 'node:path'
import { after, before, test } from 'node:test'
import { connectOnce } from '../../src/engines/postgres/client.ts'
import { apartSearch } from '../../src/primitives/search/apart.ts'
import { defineIndex, searchFor } from '../../src/primitives/search/search.ts'
import { tableSearch } from '../../src/primitives/search/table.ts'
import { openDatabase } from '../../src/runtime/wire.ts'
import { rung1k } from '../../src/topology/rungs/1k.ts'
import { openSystemTables } from '../support/data.ts'
import { type TestPostgres, testPostgres } from '../support/postgres.ts'
import { searchContract } from './search.ts'

let postgres: TestPostgres
before(async () => {
  postgres = await testPostgres()
})
after(() => postgres.stop())

searchContract('table', async () => {
  const { database } = await openSystemTables(postgres)
  return { store: tableSearch(database), database, close: () => database.close() }
})

searchContract('database of its own', async () => {
  const core = (await openSystemTables(postgres)).database
  const target = (await openSystemTables(postgres)).database
  return {
    store: apartSearch({ core, target, documents: tableSearch(target), prepare: async () => {} }),
    database: core,
    async close() {
      await core.close()
      await target.close()
    },
  }
})

const articles = defineIndex('articles', { language: 'english', fields: { title: { weight: 'A' } } })

test('a rebuild whose process is killed leaves nothing after the next one', async () => {
  const { database, connection } = await openSystemTables(postgres)
  const child = fork(path.join(import.meta.dirname, '../support/rebuild-and-hang.ts'), [JSON.stringify(connection)], {
    execArgv: ['--conditions=rung-source'],
  })
  await new Promise((resolve) => child.once('message', resolve))
  const gone = new Promise((resolve) => child.once('exit', resolve))
  child.kill('SIGKILL')
  await gone
  const search = searchFor('m', tableSearch(database))
  for (let attempt = 0; ; attempt += 1) {
    try {
      await search.rebuild(articles, async function* () {
        yield [{ id: 1, document: { title: 'whole' } }]
      })
      break
    } catch (error) {
      // The server notices within a second that the other is gone.
      if (attempt > 200) throw error
      await new Promise((resolve) => setTimeout(resolve, 20))
    }
  }
  assert.deepEqual((await search.find(articles, { text: 'half' })).hits, [])
  assert.equal((await search.find(articles, { text: 'whole' })).total, 1)
  const client = await connectOnce(connection)
  const { rows } = await client.query(`select relname from pg_class where relname ~ '^search_\\d+$'`)
  await client.end()
  assert.equal(rows.length, 1)
  await database.close()
})

test('a rebuild of a large index takes longer than a statement may', async () => {
  const limits = { ...rung1k.data, statementTimeoutMs: 500, lockTimeoutMs: 200 }
  const { connection } = await openSystemTables(postgres)
  const database = openDatabase(limits, connection)
  const search = searchFor('m', tableSearch(database))
  const client = await connectOnce(connection)
  // An index that is made concurrently waits for whoever may still see the table without it.
  await client.query('begin isolation level repeatable read; select 1')
  let told = () => {}
  const waits = new Promise<void>((resolve) => {
    told = resolve
  })
  const rebuilt = search.rebuild(articles, async function* () {
    yield [{ id: 1, document: { title: 'whole' } }]
    told()
  })
  await waits
  await new Promise((resolve) => setTimeout(resolve, 1_500))
  await client.query('commit')
  assert.equal(await rebuilt, 1)
  assert.equal((await search.find(articles, { text: 'whole' })).total, 1)
  const { rows } = await client.query('select from pg_index where not indisvalid')
  assert.equal(rows.length, 0)
  await client.end()
  await database.close()
})

test('without pg_trgm it says that there is no typo tolerance, and still finds', async () => {
  const { database, connection } = await openSystemTables(postgres)
  const client = await connectOnce(connection)
  await client.query('drop extension pg_trgm')
  await client.end()
  const search = searchFor('m', tableSearch(database))
  await search.rebuild(articles, async function* () {
    yield [{ id: 1, document: { title: 'lighthouse' } }]
  })
  assert.equal((await search.find(articles, { text: 'lighthouse' })).total, 1)
  const { total, typoTolerance } = await search.find(articles, { text: 'lighthxuse' })
  assert.deepEqual([total, typoTolerance], [0, false])
  await database.close()
})
