import assert from 'node:assert/strict'
import path from 'node:path'
import { after, before, describe, it, test } from 'node:test'
import { defineApp, isRungError, type RungError } from 'rung'
import { factory, type TestApp, testApp } from 'rung/testing'
import shop, { fail, forever } from './shop/app.ts'

let app: TestApp
before(async () => {
  app = await testApp(shop, { env: { RUNG_LIMITS: 'on', LOG_LEVEL: 'silent' } })
})
after(() => app?.stop())

describe('requests', () => {
  it('send and return JSON, text and headers', async () => {
    const { status, body, headers } = await app.request<{ name: string }>('/items', { json: { name: 'tea' } })
    assert.deepEqual([status, body.name], [201, 'tea'])
    assert.match(headers.get('content-type')!, /json/)
    assert.equal((await app.request('/text')).body, 'plain words')
    const form = new URLSearchParams({ name: 'a form' })
    assert.equal((await app.request('items', { body: form })).status, 415)
    assert.equal((await app.request(`${app.url}/text`, { method: 'HEAD' })).body, undefined)
    assert.deepEqual((await app.request('/headers', { headers: { authorization: 'Token 1' } })).body, {
      authorization: 'Token 1',
    })
  })

  it('of an unexpected status fail with the error of the app', async () => {
    await assert.rejects(app.request('/broken', { expect: 200 }), (error: RungError) => {
      assert.equal(error.code, 'TEST_STATUS')
      assert.match(error.message, /GET \/broken was answered with 500, not 200/)
      assert.match(error.message, /the till is jammed/)
      assert.match(error.message, /shop\/app\.ts/)
      return true
    })
  })

  it('keep no cookie by themselves, and keep them in a client', async () => {
    const client = app.as({ id: 'ann', plan: 'gold' })
    assert.deepEqual((await client.request('/me')).body, { id: 'ann', plan: 'gold' })
    assert.deepEqual((await client.request('/me')).body, { id: 'ann', plan: 'gold' })
    assert.equal((await app.request('/me')).status, 401)
    assert.equal((await app.client().request('/me')).status, 401)
    await client.request('/sign-out', { method: 'POST', expect: 204 })
    assert.equal((await client.request('/me')).status, 401)
  })
})

test('a module’s data is there to arrange and to look at', async () => {
  await app.data('shop').write((tx) => tx`insert into shop.item (name) values ('coffee')`)
  const rows = await app.data('shop').read((sql) => sql`select name from shop.item where name = 'coffee'`)
  assert.deepEqual(rows, [{ name: 'coffee' }])
  assert.throws(() => app.data('orders'), /has no module "orders"/)
})

describe('jobs', () => {
  it('run in drain, with what they enqueue, and send their mails', async () => {
    await app.jobs.drain()
    const before = (await app.mails()).length
    await app.request('/items', { json: { name: 'milk' }, expect: 201 })
    assert.deepEqual((await app.jobs.list()).map(({ name, state }) => [name, state]).at(-1), [
      'shop.item-added',
      'waiting',
    ])
    const runs = await app.jobs.drain()
    assert.deepEqual(
      runs.map(({ name, outcome }) => [name, outcome]),
      [
        ['shop.item-added', 'done'],
        ['announce', 'done'],
      ],
    )
    const mails = await app.mails()
    assert.equal(mails.length, before + 1)
    const { to, subject, text, html } = mails.at(-1)!
    assert.deepEqual(
      [to, subject, text?.trim(), html?.trim()],
      ['ann@example.org', 'milk 1', 'There is milk.', '<b>milk</b>'],
    )
  })

  it('that are due later wait for their time', async () => {
    const [delayed] = (await app.jobs.list()).filter(({ input }) => (input as { name?: string }).name === 'milk')
    assert.deepEqual([delayed?.name, delayed?.state], ['announce', 'delayed'])
    assert.ok(delayed!.dueAt > app.clock.now())
    await app.clock.advance('10m')
    await app.jobs.drain()
    assert.equal((await app.mails()).at(-1)!.subject, 'milk 0')
  })

  it('that fail throw their error from drain, once everything has run', async () => {
    await app.data('shop').write(async (tx) => void tx.enqueue(fail, { text: 'no more paper' }))
    await assert.rejects(app.jobs.drain(), (error: RungError) => {
      assert.equal(error.code, 'TEST_JOB_FAILED')
      assert.match(error.message, /fail#\d+ failed in try 1 of 2: Error: no more paper/)
      assert.equal((error.cause as Error).message, 'no more paper')
      return true
    })
    await app.clock.advance('10m')
    const runs = await app.jobs.drain({ allowFailures: true })
    assert.deepEqual(
      runs.filter(({ name }) => name === 'fail').map(({ outcome, error }) => [outcome, (error as Error).message]),
      [['dead', 'no more paper']],
    )
    assert.equal((await app.jobs.list()).at(-1)!.state, 'dead')
  })

  it('without end are an error', async () => {
    await using own = await testApp(shop)
    await own.data('shop').write(async (tx) => void tx.enqueue(forever, {}))
    await assert.rejects(own.jobs.drain({ runsMax: 20 }), (error) => isRungError(error, 'TEST_WORK_ENDLESS'))
  })
})

describe('the clock', () => {
  it('moves Date, the app’s SQL, and the defaults of its tables', async () => {
    const began = app.clock.now().getTime()
    await app.data('shop').write((tx) => tx`insert into shop.item (name) values ('old')`)
    await app.clock.advance('2d')
    const moved = app.clock.now().getTime() - began
    assert.ok(moved >= 2 * 86_400_000 && moved < 2 * 86_400_000 + 3_600_000)
    const { body } = await app.request('/time')
    assert.ok(Math.abs(new Date(body.at).getTime() - app.clock.now().getTime()) < 600_000)
    assert.deepEqual((await app.request('/items/recent')).body, [])
    await app.request('/items', { json: { name: 'new' } })
    assert.deepEqual((await app.request('/items/recent')).body, [{ name: 'new' }])
  })

  it('fires crons, each once', async () => {
    await app.jobs.drain()
    const reports = () => app.data('shop').read((sql) => sql<{ at: Date }>`select at from shop.report`)
    const before = (await reports()).length
    await app.clock.advance('3h')
    await app.jobs.drain()
    const all = await reports()
    assert.equal(all.length, before + 1)
    assert.ok(Math.abs(all.at(-1)!.at.getTime() - app.clock.now().getTime()) < 600_000)
  })

  it('ends sessions that were not used', async () => {
    const client = app.as({ id: 'bob' })
    await client.request('/me', { expect: 200 })
    await app.clock.advance('6d')
    await client.request('/me', { expect: 200 })
    await app.clock.advance('6d')
    await client.request('/me', { expect: 200 })
    await app.clock.advance('8d')
    await client.request('/me', { expect: 401 })
  })

  it('ends the record of an Idempotency-Key', async () => {
    const pay = () => app.request('/pay', { method: 'POST', headers: { 'idempotency-key': '"one"' }, expect: 200 })
    const first = (await pay()).body
    assert.deepEqual((await pay()).body, first)
    await app.clock.advance('25h')
    assert.notDeepEqual((await pay()).body, first)
  })

  it('lets entries of the cache and limits run out', async () => {
    const loads = async () => (await app.request('/loads', { expect: 200 })).body
    const first = await loads()
    assert.equal(await loads(), first)
    await app.clock.advance('6m')
    assert.equal(await loads(), first + 1)
    await app.clock.advance('1h')
    await app.request('/limited', { expect: 200 })
    await app.request('/limited', { expect: 429 })
    await app.clock.advance('1h')
    await app.request('/limited', { expect: 200 })
  })
})

test('each app has a database of its own, and two share one clock', async () => {
  await using other = await testApp(path.join(import.meta.dirname, 'shop/app.ts'))
  assert.deepEqual((await other.request('/items/recent')).body, [])
  await other.clock.advance('1h')
  const times = await Promise.all(
    [app, other].map((one) => one.data('shop').read((sql) => sql<{ at: Date }>`select now() as at`)),
  )
  for (const [row] of times) assert.ok(Math.abs(row!.at.getTime() - app.clock.now().getTime()) < 600_000)
})

test('a user signs in by the app’s own tokens', async () => {
  const plain = defineApp({ ...shop, name: 'plain', modules: shop.modules, sessions: undefined as never })
  await using own = await testApp<string>(plain, { signIn: async (name) => ({ authorization: `Token of ${name}` }) })
  assert.deepEqual((await own.as('ann').request('/headers')).body, { authorization: 'Token of ann' })
  await using none = await testApp(plain)
  assert.throws(
    () => none.as({ id: '1' }),
    (error) => isRungError(error, 'APP_INVALID'),
  )
})

test('a Postgres that cannot be used is an error of its own', async () => {
  const { env } = process
  const given = env.RUNG_TEST_SERVER
  env.RUNG_TEST_SERVER = 'postgres://nobody@127.0.0.1:1/none'
  try {
    await assert.rejects(testApp(shop), (error) => isRungError(error, 'TEST_DATABASE'))
  } finally {
    if (given === undefined) delete env.RUNG_TEST_SERVER
    else env.RUNG_TEST_SERVER = given
  }
})

test('a factory makes the same values from the same seed', () => {
  const make = () =>
    factory(7, (fake, n) => ({
      slug: `article-${n}`,
      title: fake.words(3),
      likes: fake.int(0, 9),
      kind: fake.pick(['a', 'b']),
    }))
  const [one, two] = [make(), make()]
  assert.deepEqual(one.many(20), two.many(20))
  assert.equal(one({ title: 'Mine' }).title, 'Mine')
  assert.equal(one().slug, 'article-22')
  assert.ok(one.many(100).every(({ likes }) => likes >= 0 && likes <= 9))
})
