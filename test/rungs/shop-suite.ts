import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { describe, it } from 'node:test'
import { type FakeProvider, startProvider } from '../../examples/shop/provider/provider.ts'
import { openScratch, until } from '../support/process.ts'
import { type Exchanged, Patience } from './patience.ts'

const app = new URL('../../examples/shop/app.ts', import.meta.url).pathname
const secret = 'shared with the provider of the tests'

/** A shop that runs at a rung, with its provider. */
export interface ShopTarget {
  baseUrl: string
  provider: FakeProvider
  scratch: Awaited<ReturnType<typeof openScratch>>
  end(): Promise<void>
}

export async function startShop(
  rung: string,
  args: readonly string[] = [],
  settings: Record<string, string> = {},
): Promise<ShopTarget> {
  const provider = await startProvider({ secret })
  const scratch = await openScratch()
  const env = { NODE_ENV: 'test', SHOP_PROVIDER_URL: provider.url, SHOP_PROVIDER_SECRET: secret, ...settings }
  const options = { app, args, env }
  const end = async () => {
    await provider.stop()
    await scratch.end()
  }
  try {
    const { url } =
      rung === '1k' ? await scratch.start(options) : await scratch.launch({ up: rung, ...options }).started
    provider.sendEventsTo(`${url}/payments/webhook`)
    return { baseUrl: url, provider, scratch, end }
  } catch (error) {
    await end()
    throw error
  }
}

export interface Order {
  id: string
  state: string
  total: number
  lines: { sku: string; quantity: number }[]
}

export type ShopClient = ReturnType<typeof shopClient>

/** The shop's API over HTTP. Each request has an `Idempotency-Key`, and is sent again where that does no harm. */
export function shopClient(target: () => { baseUrl: string; patience?: Patience }) {
  async function send<Body>(
    token: string,
    path: string,
    { body, method = body ? 'POST' : 'GET', key = randomUUID() }: { body?: object; method?: string; key?: string } = {},
  ): Promise<{ status: number; body: Body }> {
    const { baseUrl, patience = new Patience() } = target()
    const headers: Record<string, string> = { 'idempotency-key': key }
    if (token !== '') headers.authorization = `Token ${token}`
    if (body) headers['content-type'] = 'application/json'
    // Opening a shop and an account takes no key: there may be one more, which nobody uses.
    const hasKey = !/^\/(shops|customers)$/.test(path)
    const exchange = async (): Promise<Exchanged> => {
      const content = body && { body: JSON.stringify(body) }
      const answer = await fetch(baseUrl + path, { method, headers, ...content, signal: AbortSignal.timeout(30_000) })
      return { status: answer.status, headers: answer.headers, text: await answer.text() }
    }
    const { answer } = await patience.answer({ method, path, hasKey, send: exchange }, false)
    return { status: answer.status, body: JSON.parse(answer.text) as Body }
  }

  async function expect<Body>(status: number, ...request: Parameters<typeof send>): Promise<Body> {
    const answer = await send<Body>(...request)
    assert.equal(answer.status, status, `${request[1]}: ${JSON.stringify(answer.body)}`)
    return answer.body
  }

  /** A shop with so many of each product, which costs 12.50. */
  async function open(skus: readonly string[], stock: number): Promise<string> {
    const { key } = await expect<{ key: string }>(201, '', '/shops', { body: { name: 'Tea' } })
    for (const sku of skus) {
      await expect(200, key, `/products/${sku}`, {
        method: 'PUT',
        body: { name: sku, price: 1_250, currency: 'EUR' },
      })
      await expect(200, key, `/products/${sku}/stock`, { body: { change: stock } })
    }
    return key
  }
  const customer = async (shop: string) =>
    (await expect<{ key: string }>(201, shop, '/customers', { body: { name: 'Ann' } })).key
  const available = async (shop: string, sku: string) =>
    (await expect<{ available: number }>(200, shop, `/products/${sku}`)).available
  return { send, expect, open, customer, available }
}

/** The shop from outside, over HTTP alone: the same at every rung, also while processes are killed. */
export function shopSuite(target: () => ShopTarget & { patience?: Patience }): void {
  const api = shopClient(target)
  const json = (quantity: number, source = 'tok') => ({ lines: [{ sku: 'cup', quantity }], source })
  const settled = (token: string, id: string, ...states: string[]) =>
    until(
      async () => {
        const { state } = await api.expect<Order>(200, token, `/orders/${id}`)
        return states.includes(state) && state
      },
      `the order ${id} is ${states.join(' or ')}`,
    )
  const takenFor = (id: string) =>
    target()
      .provider.movements.filter(({ key }) => key === id)
      .reduce((sum, { amount }) => sum + amount, 0)

  describe('shop', { concurrency: 4 }, () => {
    it('takes an order, has it paid, and ships it', async () => {
      const shop = await api.open(['cup'], 10)
      const ann = await api.customer(shop)
      const { id, total } = await api.expect<Order>(201, ann, '/orders', { body: json(3) })
      assert.equal(total, 3_750)
      assert.equal(await api.available(shop, 'cup'), 7)
      await settled(ann, id, 'paid')
      await api.expect(200, shop, `/orders/${id}/ship`, { body: {} })
      await api.expect(409, shop, `/orders/${id}/cancel`, { body: {} })
      const { entries } = await api.expect<{ entries: { amount: number }[] }>(200, shop, '/ledger')
      assert.equal(
        entries.reduce((sum, { amount }) => sum + amount, 0),
        0,
      )
      assert.equal(takenFor(id), 3_750)
    })

    it('sells no more than there is, to however many at once', async () => {
      const shop = await api.open(['cup'], 10)
      const ann = await api.customer(shop)
      const answers = await Promise.all(Array.from({ length: 8 }, () => api.send(ann, '/orders', { body: json(3) })))
      assert.deepEqual(answers.map(({ status }) => status).sort(), [201, 201, 201, 409, 409, 409, 409, 409])
      assert.equal(await api.available(shop, 'cup'), 1)
    })

    it('takes a repeated request once', async () => {
      const shop = await api.open(['cup'], 10)
      const ann = await api.customer(shop)
      const key = randomUUID()
      const first = await api.expect<Order>(201, ann, '/orders', { body: json(1), key })
      const second = await api.expect<Order>(201, ann, '/orders', { body: json(1), key })
      assert.deepEqual(second, first)
      assert.equal(await api.available(shop, 'cup'), 9)
      await api.expect(422, ann, '/orders', { body: json(2), key })
    })

    for (const source of ['tok_lost', 'tok_twice', 'tok_early', 'tok_busy'])
      it(`charges once: ${source}`, async () => {
        const shop = await api.open(['cup'], 10)
        const ann = await api.customer(shop)
        const { id } = await api.expect<Order>(201, ann, '/orders', { body: json(1, source) })
        await settled(ann, id, 'paid')
        assert.equal(takenFor(id), 1_250)
      })

    it('returns the stock of a declined payment', async () => {
      const shop = await api.open(['cup'], 10)
      const ann = await api.customer(shop)
      const { id } = await api.expect<Order>(201, ann, '/orders', { body: json(4, 'tok_declined') })
      await settled(ann, id, 'declined')
      assert.equal(await api.available(shop, 'cup'), 10)
      assert.equal(takenFor(id), 0)
    })

    it('refunds a paid order that is cancelled', async () => {
      const shop = await api.open(['cup'], 10)
      const ann = await api.customer(shop)
      const { id } = await api.expect<Order>(201, ann, '/orders', { body: json(2) })
      await settled(ann, id, 'paid')
      await api.expect(200, ann, `/orders/${id}/cancel`, { body: {} })
      await until(() => takenFor(id) === 0, 'it is refunded')
      assert.equal(await api.available(shop, 'cup'), 10)
    })

    it('shows and changes nothing of another shop', async () => {
      const [shop, other] = [await api.open(['cup'], 10), await api.open(['cup'], 5)]
      const ann = await api.customer(shop)
      const { id } = await api.expect<Order>(201, ann, '/orders', { body: json(1) })
      for (const stranger of [other, await api.customer(other), await api.customer(shop)]) {
        await api.expect(404, stranger, `/orders/${id}`)
        await api.expect(404, stranger, `/orders/${id}/cancel`, { body: {} })
      }
      await api.expect(403, ann, '/products/cup/stock', { body: { change: 1 } })
      await api.expect(401, '', '/orders')
      assert.deepEqual([await api.available(shop, 'cup'), await api.available(other, 'cup')], [9, 5])
    })
  })
}
