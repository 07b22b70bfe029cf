import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { after, afterEach, before, beforeEach, describe, it } from 'node:test'
import { type TestApp, type TestClient, testApp } from 'rung/testing'
import { signatureOf } from '../payments/signature.ts'
import { type FakeProvider, startProvider } from '../provider/provider.ts'

const secret = 'shared with the provider of the tests'

describe('shop', () => {
  let provider: FakeProvider
  let app: TestApp<string>
  let shop: TestClient
  let ann: TestClient
  before(async () => {
    provider = await startProvider({ secret })
    process.env.SHOP_PROVIDER_URL = provider.url
    process.env.SHOP_PROVIDER_SECRET = secret
  })
  after(() => provider?.stop())
  /**
   * Each test has an app of its own, whose circuit breaker has seen none of the failures of another test, and a shop with ten cups, and a
   * customer.
   */
  beforeEach(async () => {
    const { default: definition } = await import('../app.ts')
    app = await testApp(definition, { signIn: async (key) => ({ authorization: `Token ${key}` }) })
    provider.sendEventsTo(`${app.url}/payments/webhook`)
    ;({ shop, customer: ann } = await openShop())
  })
  afterEach(() => app?.stop())

  async function openShop() {
    const { body: opened } = await app.request('/shops', { json: { name: 'Tea' }, expect: 201 })
    const own = app.as(opened.key)
    const { body: known } = await own.request('/customers', { json: { name: 'Ann' }, expect: 201 })
    await own.request('/products/cup', { method: 'PUT', json: { name: 'A cup', price: 1_250, currency: 'EUR' } })
    await own.request('/products/pot', { method: 'PUT', json: { name: 'A pot', price: 4_000, currency: 'EUR' } })
    for (const sku of ['cup', 'pot'])
      await own.request(`/products/${sku}/stock`, { json: { change: 10 }, headers: key(), expect: 200 })
    return { shop: own, customer: app.as(known.key) }
  }

  const key = (id: string = randomUUID()) => ({ 'idempotency-key': id })
  const order = (quantity: number, source = 'tok', expect = 201) =>
    ann.request('/orders', { json: { lines: [{ sku: 'cup', quantity }], source }, headers: key(), expect })
  const available = async (sku = 'cup') => (await shop.request(`/products/${sku}`, { expect: 200 })).body.available
  const stateOf = async (id: string) => (await ann.request(`/orders/${id}`, { expect: 200 })).body.state
  const act = (id: string, what: string, expect = 200) =>
    shop.request(`/orders/${id}/${what}`, { method: 'POST', expect })
  async function work(): Promise<void> {
    await app.jobs.drain({ allowFailures: true })
    await provider.idle()
    await app.jobs.drain({ allowFailures: true })
  }
  /** The ledger of this shop as sums by account; all entries together are always 0. */
  async function balance(): Promise<Record<string, number>> {
    const { entries } = (await shop.request('/ledger?limit=100', { expect: 200 })).body
    const sums: Record<string, number> = {}
    for (const { account, amount } of entries) sums[account] = (sums[account] ?? 0) + amount
    const values = Object.values(sums)
    assert.equal(
      values.reduce((sum, value) => sum + value, 0),
      0,
    )
    return sums
  }
  const taken = (id: string) =>
    provider.movements.filter(({ key }) => key === id).reduce((sum, { amount }) => sum + amount, 0)

  it('takes an order, has it paid, and ships it', async () => {
    const json = {
      lines: [
        { sku: 'pot', quantity: 1 },
        { sku: 'cup', quantity: 1 },
        { sku: 'cup', quantity: 2 },
      ],
      source: 'tok',
    }
    const { body: placed } = await ann.request('/orders', { json, headers: key(), expect: 201 })
    assert.deepEqual([placed.state, placed.total, placed.currency], ['placed', 3 * 1_250 + 4_000, 'EUR'])
    assert.deepEqual(
      placed.lines.map(({ sku, quantity }: { sku: string; quantity: number }) => [sku, quantity]),
      [
        ['cup', 3],
        ['pot', 1],
      ],
    )
    assert.deepEqual([await available('cup'), await available('pot')], [7, 9])
    await act(placed.id, 'ship', 409)
    await work()
    assert.equal(await stateOf(placed.id), 'paid')
    assert.deepEqual(await balance(), { provider: -7_750, held: 7_750 })
    await act(placed.id, 'ship')
    await act(placed.id, 'ship')
    await act(placed.id, 'cancel', 409)
    assert.deepEqual(await balance(), { provider: -7_750, held: 0, earned: 7_750 })
    assert.equal(taken(placed.id), 7_750)
  })

  it('sells no more than there is, to however many at once', async () => {
    const json = { lines: [{ sku: 'cup', quantity: 3 }], source: 'tok' }
    const answers = await Promise.all(Array.from({ length: 8 }, () => ann.request('/orders', { json, headers: key() })))
    assert.deepEqual(answers.map(({ status }) => status).sort(), [201, 201, 201, 409, 409, 409, 409, 409])
    const refused = answers.find(({ status }) => status === 409)!
    assert.deepEqual([refused.body.code, refused.body.unavailable], ['HTTP_CONFLICT', ['cup']])
    assert.equal(await available(), 1)
  })

  it('takes nothing of an order of which a part is missing, and never waits in a circle', async () => {
    const lines = (skus: string[], quantity: number) => skus.map((sku) => ({ sku, quantity }))
    const place = (json: object) => ann.request('/orders', { json, headers: key() })
    const none = await place({ lines: [...lines(['cup'], 1), ...lines(['pot'], 11)], source: 'tok' })
    assert.deepEqual([none.status, await available('cup')], [409, 10])
    const answers = await Promise.all(
      Array.from({ length: 20 }, (_, n) =>
        place({ lines: lines(n % 2 ? ['cup', 'pot'] : ['pot', 'cup'], 1), source: 'tok' }),
      ),
    )
    assert.equal(answers.filter(({ status }) => status === 201).length, 10)
    assert.deepEqual([await available('cup'), await available('pot')], [0, 0])
  })

  it('takes a repeated request once', async () => {
    const json = { lines: [{ sku: 'cup', quantity: 1 }], source: 'tok' }
    const headers = key()
    const first = await ann.request('/orders', { json, headers, expect: 201 })
    const second = await ann.request('/orders', { json, headers, expect: 201 })
    assert.deepEqual(second.body, first.body)
    assert.equal(await available(), 9)
    await ann.request('/orders', { json, expect: 400 })
  })

  it('returns the stock of a declined payment, and charges nothing', async () => {
    const { body: placed } = await order(4, 'tok_declined_twice')
    await work()
    assert.deepEqual([await stateOf(placed.id), await available(), await balance()], ['declined', 10, {}])
    assert.equal(taken(placed.id), 0)
  })

  for (const source of [
    'tok_lost',
    'tok_gone',
    'tok_busy',
    'tok_slow_early',
    'tok_twice',
    'tok_gone_silent',
    'tok_gone_early',
  ])
    it(`charges once: ${source}`, async () => {
      const { body: placed } = await order(1, source)
      await work()
      await app.clock.advance('2s')
      await work()
      assert.equal(await stateOf(placed.id), 'paid')
      assert.deepEqual(await balance(), { provider: -1_250, held: 1_250 })
      assert.deepEqual(
        provider.movements.filter(({ key }) => key === placed.id).map(({ amount }) => amount),
        [1_250],
      )
    })

  it('refunds a paid order that is cancelled, also when events arrive in the wrong order', async () => {
    const { body: placed } = await order(2, 'tok_held')
    await work()
    await act(placed.id, 'cancel')
    await act(placed.id, 'cancel')
    assert.deepEqual([await stateOf(placed.id), await available()], ['cancelled', 10])
    await work()
    await provider.release()
    await work()
    assert.deepEqual([await available(), await balance(), taken(placed.id)], [10, { provider: 0, held: 0 }, 0])
  })

  it('prevents the payment of an order that is cancelled before it', async () => {
    const { body: placed } = await order(2)
    await act(placed.id, 'cancel')
    await work()
    assert.deepEqual([await stateOf(placed.id), await available(), taken(placed.id)], ['cancelled', 10, 0])
  })

  it('lets an unpaid order expire, and gives back what was charged nevertheless', async () => {
    // Its answers are lost four times, and it sends no event.
    const { body: placed } = await order(5, 'tok_gone_silent')
    await app.jobs.drain({ allowFailures: true })
    assert.deepEqual([await stateOf(placed.id), taken(placed.id)], ['placed', 5 * 1_250])
    await app.clock.advance('16m')
    await work()
    assert.deepEqual(
      [await available(), taken(placed.id) === 0 ? 'expired' : 'paid'],
      [taken(placed.id) === 0 ? 10 : 5, await stateOf(placed.id)],
    )
    const { held = 0 } = await balance()
    assert.equal(held, taken(placed.id))
  })

  it('shows and changes nothing of another shop', async () => {
    const { body: placed } = await order(1)
    await work()
    const other = await openShop()
    const bob = app.as((await shop.request('/customers', { json: { name: 'Bob' }, expect: 201 })).body.key)
    for (const stranger of [other.shop, other.customer, bob]) {
      await stranger.request(`/orders/${placed.id}`, { expect: 404 })
      await stranger.request(`/orders/${placed.id}/cancel`, { method: 'POST', expect: 404 })
      assert.deepEqual((await stranger.request('/orders', { expect: 200 })).body, { orders: [] })
    }
    await other.shop.request(`/orders/${placed.id}/ship`, { method: 'POST', expect: 404 })
    assert.deepEqual((await other.shop.request('/ledger', { expect: 200 })).body, { entries: [] })
    await other.shop.request('/products/cup', { method: 'PUT', json: { name: 'Theirs', price: 1, currency: 'USD' } })
    const { body: cup } = await shop.request('/products/cup', { expect: 200 })
    assert.deepEqual([cup.name, cup.price, cup.available], ['A cup', 1_250, 9])
    for (const client of [app, bob]) {
      const expect = client === app ? 401 : 403
      await client.request('/products/cup', { method: 'PUT', json: { name: 'N', price: 1, currency: 'EUR' }, expect })
      await client.request('/products/cup/stock', { json: { change: 1 }, headers: key(), expect })
      await client.request(`/orders/${placed.id}/ship`, { method: 'POST', expect })
      await client.request('/ledger', { expect })
      await client.request('/customers', { json: { name: 'N' }, expect })
    }
    assert.equal((await shop.request('/orders', { expect: 200 })).body.orders.length, 1)
  })

  it('takes only events that the provider has signed, and each once', async () => {
    const { body: placed } = await order(1, 'tok_gone_silent')
    await app.jobs.drain({ allowFailures: true })
    const charge = provider.charges.get(placed.id)!
    const event = JSON.stringify({ id: `evt_${randomUUID()}`, charge })
    const post = (body: string, signature: string, expect: number) =>
      app.request('/payments/webhook', {
        method: 'POST',
        body,
        headers: { 'content-type': 'application/json', signature },
        expect,
      })
    const now = Math.floor(Date.now() / 1_000)
    await post(event, '', 401)
    await post(event, signatureOf('another secret', event), 401)
    await post(event, signatureOf(secret, event, now - 301), 401)
    await post(event, signatureOf(secret, event, now + 400), 401)
    await post(event.replace('1250', '1'), signatureOf(secret, event), 401)
    const wrong = event.replace('1250', '1251')
    await post(wrong, signatureOf(secret, wrong), 409)
    const stranger = event.replace(placed.id, randomUUID())
    await post(stranger, signatureOf(secret, stranger), 404)
    assert.equal(await stateOf(placed.id), 'placed')
    for (let n = 0; n < 3; n += 1) await post(event, signatureOf(secret, event), 204)
    await work()
    assert.deepEqual([await stateOf(placed.id), await balance()], ['paid', { provider: -1_250, held: 1_250 }])
  })

  it('refuses what makes no sense', async () => {
    for (const lines of [
      [],
      [{ sku: 'cup', quantity: 0 }],
      [{ sku: 'cup', quantity: 1.5 }],
      [{ sku: '', quantity: 1 }],
    ])
      await ann.request('/orders', { json: { lines, source: 'tok' }, headers: key(), expect: 422 })
    await order(1, 'not a token', 422)
    for (const price of [0, -1, 1.5, 1e12])
      await shop.request('/products/x', { method: 'PUT', json: { name: 'X', price, currency: 'EUR' }, expect: 422 })
    await shop.request('/products/cup/stock', { json: { change: -11 }, headers: key(), expect: 409 })
    await shop.request('/products/none/stock', { json: { change: 1 }, headers: key(), expect: 404 })
    await ann.request('/orders/1', { expect: 422 })
    await shop.request('/products/kg', {
      method: 'PUT',
      json: { name: 'Rice', price: 3, currency: 'USD' },
      expect: 200,
    })
    await shop.request('/products/kg/stock', { json: { change: 1 }, headers: key(), expect: 200 })
    const lines = ['cup', 'kg'].map((sku) => ({ sku, quantity: 1 }))
    await ann.request('/orders', { json: { lines, source: 'tok' }, headers: key(), expect: 409 })
  })
})
