import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { defineApp } from '../../src/app/define-app.ts'
import { defineModule } from '../../src/app/define-module.ts'
import { defineIndex } from '../../src/primitives/search/search.ts'
import { bootForTest } from '../support/app.ts'
import { type TestPostgres, testPostgres } from '../support/postgres.ts'

let postgres: TestPostgres
before(async () => {
  postgres = await testPostgres()
})
after(() => postgres.stop())

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
  const app = await bootForTest(defineApp({ name: 'search', modules: [module('one'), module('two')] }), postgres)
  try {
    for (const name of ['one', 'two']) {
      const response = await fetch(`${app.url}/${name}/7`, {
        method: 'POST',
        headers: { 'content-type': 'text/plain' },
        body: 'remember the milk',
      })
      const { hits, facets } = (await response.json()) as { hits: { id: string }[]; facets: unknown }
      assert.deepEqual([hits.map(({ id }) => id), facets], [['7'], { kind: [{ value: name, count: 1 }] }])
    }
  } finally {
    await app.stop()
  }
})
