import assert from 'node:assert/strict'
import { after, before, beforeEach, describe, it } from 'node:test'
import { type TestApp, type TestClient, testApp } from 'rung/testing'
import definition from './app.ts'

/** Tests of an author, which `rung test --lag` runs: those of which suites are right, and which it must name. */
let app: TestApp
let ann: TestClient
let ben: TestClient
before(async () => {
  app = await testApp(definition, { env: { LOG_LEVEL: 'silent' } })
})
after(() => app?.stop())
beforeEach(() => {
  ann = app.as({ id: 'ann' })
  ben = app.as({ id: 'ben' })
})

async function write(client: TestClient, text: string): Promise<void> {
  await client.request('/notes', { json: { text }, expect: 201 })
}
async function isIn(client: TestClient, text: string, path = '/notes'): Promise<boolean> {
  const { body } = await client.request<{ text: string }[]>(path, { expect: 200 })
  return body.some((note) => note.text === text)
}

describe('right', () => {
  it('a session sees what it has written', async () => {
    await write(ann, 'own')
    assert.ok(await isIn(ann, 'own'))
    const browser = app.client()
    await write(browser, 'of a browser')
    assert.ok(await isIn(browser, 'of a browser'))
  })

  it('all see what the test has arranged', async () => {
    await app.data('notes').write((tx) => tx`insert into notes.note (text) values ('arranged')`)
    assert.ok(await isIn(ben, 'arranged'))
    await app.data('notes').pool.query(`insert into notes.note (text) values ('by a library')`)
    assert.ok(await isIn(app, 'by a library'))
  })

  it('the test sees the truth', async () => {
    await write(ann, 'true')
    const rows = await app.data('notes').read((sql) => sql`select from notes.note where text = 'true'`)
    assert.equal(rows.length, 1)
    assert.equal((await app.jobs.list()).length > 0, true)
  })

  it('all see later what one has written, and what jobs have done', async () => {
    await write(ann, 'later')
    await app.clock.advance('5s')
    assert.ok(await isIn(ben, 'later'))
    await write(ann, 'with a job')
    await app.jobs.drain()
    assert.ok(await isIn(ben, 'with a job again'))
  })
})

describe('early', () => {
  it('ben sees what ann writes', async () => {
    assert.equal(await isIn(ben, 'news'), false)
    await write(ann, 'news')
    assert.ok(await isIn(ben, 'news'))
  })

  it('requests without cookies see each other', async () => {
    await write(app, 'anonymous')
    assert.ok(await isIn(app, 'anonymous'))
  })

  it('a report shows what was just written', async () => {
    await write(ann, 'reported')
    assert.ok(await isIn(ann, 'reported', '/report'))
  })

  describe('in a hook', () => {
    before(async () => {
      const carl = app.as({ id: 'carl' })
      assert.equal(await isIn(carl, 'hooked'), false)
      await write(app.as({ id: 'dora' }), 'hooked')
      assert.ok(await isIn(carl, 'hooked'))
    })
    it('never begins', () => {})
  })
})

describe('broken', () => {
  it('whatever replicas do', async () => {
    await ann.request('/nothing', { expect: 200 })
  })
})
