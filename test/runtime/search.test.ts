import assert from 'node:assert/strict'
import { test } from 'node:test'
import { defineApp } from '../../src/app/define-app.ts'
import { defineModule } from '../../src/app/define-module.ts'
import { connectOnce } from '../../src/engines/postgres/client.ts'
import { defineIndex } from '../../src/primitives/search/search.ts'
import { testApp } from '../../src/testing.ts'
import { bootForTest } from '../support/app.ts'
import { testPostgres, urlOf } from '../support/postgres.ts'
import { until } from '../support/process.ts'

const notes = defineIndex('notes', { language: 'english', fields: { text: {} }, facets: ['kind'] })
const module = (name: string) =>
  defineModule({
    name,
    owner: 'tests',
    routes(http, { data, search }) {
      http.post(`/${name}/:id`, async (request) => {
        const { id } = request.params as { id: string }
        await data.write((tx) => tx.index(notes, id, { text: String(request.body), kind: name }))
        return search.find(notes, { text: String(request.body), facets: ['kind'] })
      })
    },
  })

test('a module indexes and finds its own, in an app', async () => {
  await using app = await testApp(defineApp({ name: 'search', modules: [module('one'), module('two')] }))
  for (const name of ['one', 'two']) {
    const headers = { 'content-type': 'text/plain' }
    const { body } = await app.request(`/${name}/7`, { headers, body: 'remember the milk' })
    const ids = body.hits.map(({ id }: { id: string }) => id)
    assert.deepEqual([ids, body.facets], [['7'], { kind: [{ value: name, count: 1 }] }])
  }
})

test('with a search database, an app finds at once what it wrote, and workers bring over what nobody searches for', async () => {
  const postgres = await testPostgres()
  const [main, apart] = [await postgres.createDatabase(), await postgres.createDatabase()]
  const app = defineApp({
    name: 'search',
    modules: [
      module('one'),
      defineModule({
        name: 'quiet',
        owner: 'tests',
        routes(http, { data }) {
          http.post('/quiet', async () => data.write(async (tx) => tx.index(notes, 1, { text: 'whisper' })))
        },
      }),
    ],
  })
  const running = await bootForTest(app, postgres, {}, [], {
    DATABASE_URL: urlOf(main),
    RUNG_SEARCH_URL: urlOf(apart),
  })
  const headers = { 'content-type': 'text/plain' }
  const found = await fetch(`${running.url}/one/7`, { method: 'POST', headers, body: 'remember the milk' })
  const { hits } = (await found.json()) as { hits: { id: string }[] }
  assert.deepEqual(
    hits.map(({ id }) => id),
    ['7'],
  )
  await fetch(`${running.url}/quiet`, { method: 'POST' })
  const [atMain, atApart] = [await connectOnce(main), await connectOnce(apart)]
  await until(async () => (await atMain.query('select from rung.search_pending')).rowCount === 0, 'nothing waits')
  const { rows } = await atApart.query('select module from rung.search_index order by module')
  assert.deepEqual(rows, [{ module: 'one' }, { module: 'quiet' }])
  await atMain.end()
  await atApart.end()
  await running.stop()
  await postgres.stop()
})
