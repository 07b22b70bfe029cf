import assert from 'node:assert/strict'
import { test } from 'node:test'
import { defineApp } from '../../src/app/define-app.ts'
import { defineModule } from '../../src/app/define-module.ts'
import { defineIndex } from '../../src/primitives/search/search.ts'
import { testApp } from '../../src/testing.ts'

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
