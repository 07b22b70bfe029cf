import assert from 'node:assert/strict'
import { writeFileSync } from 'node:fs'
import { after, before, describe, it } from 'node:test'
import { type TestApp, testApp } from 'rung/testing'
import definition from './app.ts'

/** Tests of an author, which `rung test --nodes 2` runs. */
const { RUNG_TEST_NODES, ORDER_FILE } = process.env
let app: TestApp
before(async () => {
  app = await testApp(definition, { env: { LOG_LEVEL: 'silent' } })
})
after(() => app?.stop())

async function texts(): Promise<string[]> {
  const { body } = await app.request<{ text: string }[]>('/notes', { expect: 200 })
  return body.map(({ text }) => text)
}

describe('kept', () => {
  it('views are counted', async () => {
    for (const views of [1, 2]) assert.deepEqual((await app.request('/views', { expect: 200 })).body, { views })
  })
})

describe('shared', () => {
  it('each node answers', async () => {
    const order: number[] = []
    for (let n = 0; n < 16; n += 1) order.push((await app.request('/node', { expect: 200 })).body.node)
    assert.equal(new Set(order).size, RUNG_TEST_NODES === undefined ? 1 : 2)
    const first = Math.min(...order)
    if (ORDER_FILE && RUNG_TEST_NODES)
      writeFileSync(ORDER_FILE, order.map((node) => (node === first ? 'a' : 'b')).join(''))
  })

  it('sessions hold on both, and end on both', async () => {
    const ann = app.as({ id: 'ann' })
    for (let n = 0; n < 4; n += 1) assert.deepEqual((await ann.request('/me', { expect: 200 })).body, { id: 'ann' })
    await app.client().request('/me', { expect: 401 })
    const headers = { cookie: (await ann.request('/cookie', { expect: 200 })).body.cookie }
    for (let n = 0; n < 4; n += 1) await app.request('/me', { headers, expect: 200 })
    await app.request('/sign-out', { method: 'POST', headers, expect: 204 })
    for (let n = 0; n < 4; n += 1) await app.request('/me', { headers, expect: 401 })
  })

  it('a cached list shows each write at once', async () => {
    for (let n = 0; n < 20; n += 1) {
      await app.request('/notes', { json: { text: `note ${n}` }, expect: 201 })
      assert.ok((await texts()).includes(`note ${n}`))
    }
  })

  it('jobs and mails are those of both', async () => {
    const runs = await app.jobs.drain()
    assert.equal(runs.length, 20)
    assert.equal((await app.mails()).length, 20)
    for (let n = 0; n < 2; n += 1) assert.ok((await texts()).every((text) => text.endsWith('(told)')))
    await app.data('notes').write(async (tx) => {
      await tx`insert into notes.note (text) values ('arranged')`
      tx.invalidate(['notes'])
    })
    for (let n = 0; n < 2; n += 1) assert.ok((await texts()).includes('arranged'))
  })

  it('the clock moves on both', async () => {
    const before = Date.now()
    await Promise.all([app.clock.advance('30m'), app.clock.advance('30m')])
    for (let n = 0; n < 4; n += 1)
      assert.ok((await app.request('/time', { expect: 200 })).body.at >= before + 3_600_000)
  })
})

describe('broken', () => {
  it('on any number of nodes', () => assert.fail('as ever'))
})
