import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { after, before, describe, it } from 'node:test'
import { setTimeout as wait } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { type FakeProvider, startProvider } from '../../examples/shop/provider/provider.ts'
import { runningFleet } from '../../src/fleet/state.ts'
import { noNginx } from '../support/nginx.ts'
import { openScratch, until } from '../support/process.ts'
import { noRedis } from '../support/redis.ts'

const secret = 'shared with the provider of the tests'
const app = fileURLToPath(new URL('../../examples/shop/app.ts', import.meta.url))
const buyers = 6
const ordersEach = 20
const stock = 150
const victims = ['web-1', 'worker-1', 'web-2', 'worker-1', 'web-1']
const sources = ['tok', 'tok_twice', 'tok_lost', 'tok_early', 'tok_declined', 'tok_silent', 'tok_slow']
const skus = ['cup', 'pot']

/** Buyers repeat what was not answered, with the same key, while processes are killed. */
describe('shop at 10k, killed while it sells', { skip: noRedis || noNginx }, () => {
  let scratch: Awaited<ReturnType<typeof openScratch>>
  let provider: FakeProvider
  let baseUrl: string
  before(async () => {
    provider = await startProvider({ secret })
    scratch = await openScratch()
    const env = { NODE_ENV: 'test', SHOP_PROVIDER_URL: provider.url, SHOP_PROVIDER_SECRET: secret }
    baseUrl = (await scratch.launch({ up: '10k', app, args: ['--web', '2'], env }).started).url
    provider.sendEventsTo(`${baseUrl}/payments/webhook`)
  })
  after(async () => {
    await provider?.stop()
    await scratch?.end()
  })

  /** Sends a request until it has an answer that is not of a dying process; repeating it does no harm. */
  async function send<Body>(path: string, key: string, body?: object, method = body ? 'POST' : 'GET') {
    const headers = {
      authorization: `Token ${key}`,
      'idempotency-key': randomUUID(),
      ...(body && { 'content-type': 'application/json' }),
    }
    return until(async () => {
      const answer = await fetch(baseUrl + path, {
        method,
        headers,
        ...(body && { body: JSON.stringify(body) }),
      }).catch(() => undefined)
      const text = await answer?.text().catch(() => undefined)
      if (!answer || text === undefined || answer.status >= 500) return false
      const parsed = JSON.parse(text)
      return parsed.code === 'IDEMPOTENCY_IN_FLIGHT' ? false : { status: answer.status, body: parsed as Body }
    }, `${method} ${path} is answered`)
  }

  it('sells no more than there is, charges each order once, and leaves none open', async () => {
    const client = await scratch.connect()
    const rows = async <Row>(text: string) => (await client.query(text)).rows as Row[]
    const { body: shop } = await send<{ key: string }>('/shops', '', { name: 'Tea' })
    for (const sku of skus) {
      await send(`/products/${sku}`, shop.key, { name: sku, price: 1_250, currency: 'EUR' }, 'PUT')
      await send(`/products/${sku}/stock`, shop.key, { change: stock })
    }
    const acknowledged: string[] = []
    let refused = 0
    const buy = async (buyer: number) => {
      const { body: customer } = await send<{ key: string }>('/customers', shop.key, { name: `Buyer ${buyer}` })
      for (let n = 0; n < ordersEach; n += 1) {
        const lines = (n % 2 ? skus : skus.toReversed()).map((sku) => ({ sku, quantity: 1 + ((n + buyer) % 3) }))
        const source = sources[(n + buyer) % sources.length]
        const { status, body } = await send<{ id: string }>('/orders', customer.key, { lines, source })
        assert.ok(status === 201 || status === 409, `${status} ${JSON.stringify(body)}`)
        if (status === 409) refused += 1
        else acknowledged.push(body.id)
        if (status === 201 && n % 7 === 6) await send(`/orders/${body.id}/cancel`, customer.key, {})
      }
    }
    let isOver = false
    const buying = Promise.all(Array.from({ length: buyers }, (_, n) => buy(n))).finally(() => {
      isOver = true
    })
    for (const name of victims) {
      const enough = acknowledged.length + refused + 8
      await until(() => isOver || acknowledged.length + refused >= enough, 'orders are taken')
      await wait(Math.random() * 50) // at any moment
      const partOf = async () => (await runningFleet(scratch.dataDir))?.parts.find((part) => part.name === name)
      const old = (await until(partOf, `${name} is known`))!
      process.kill(old.pid!, 'SIGKILL')
      await until(async () => {
        const now = await partOf()
        return now?.state === 'running' && now.pid !== old.pid
      }, `${name} is back`)
    }
    await buying

    // Until no work is left but the expiry of orders, the provider has sent everything, and no order waits for its payment.
    await until(async () => {
      await provider.idle()
      const [left] = await rows<{ jobs: number; orders: number }>(`
        select (select count(*)::int from rung.job where name <> 'sales.expire' and name not like 'rung%' and dead_at is null) as jobs,
          (select count(*)::int from sales.customer_order where state = 'placed') as orders`)
      return left!.jobs === 0 && left!.orders === 0
    }, 'all payments are settled')

    assert.deepEqual(await rows('select name, error from rung.job where dead_at is not null'), [])
    const orders = await rows<{ id: string; state: string; total: number }>(
      'select id, state, total::float8 as total from sales.customer_order',
    )
    assert.deepEqual(orders.map(({ id }) => id).sort(), acknowledged.sort())
    for (const sku of skus) {
      const [counted] = await rows<{ available: number; sold: number }>(`
        select available::int as available, (select coalesce(sum(quantity), 0)::int from sales.order_line
          join sales.customer_order on id = order_id where order_line.sku = product.sku and state in ('paid', 'shipped')) as sold
        from sales.product where sku = '${sku}'`)
      assert.equal(counted!.available + counted!.sold, stock)
    }
    const [sums] = await rows<{ all: number; held: number }>(`
      select coalesce(sum(amount), 0)::float8 as all, coalesce(sum(amount) filter (where account = 'held'), 0)::float8 as held
      from sales.ledger_entry`)
    const paid = orders.filter(({ state }) => state === 'paid')
    const worth = paid.reduce((sum, { total }) => sum + total, 0)
    assert.deepEqual(sums, { all: 0, held: worth })
    const captured = [...provider.charges.values()].filter(({ status }) => status === 'captured')
    assert.deepEqual(captured.map(({ key }) => key).sort(), paid.map(({ id }) => id).sort())
    assert.equal(
      provider.movements.reduce((sum, { amount }) => sum + amount, 0),
      worth,
    )
    assert.ok(paid.length > 0 && refused > 0, `${paid.length} paid, ${refused} refused`)
  })
})
