import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { type FleetKills, killParts, victimsOf100k } from '../support/fleet-kills.ts'
import { noHaproxy } from '../support/haproxy.ts'
import { noNginx } from '../support/nginx.ts'
import { noPooler } from '../support/pgbouncer.ts'
import { until } from '../support/process.ts'
import { noRedis } from '../support/redis.ts'
import { Patience } from './patience.ts'
import { type Order, type ShopTarget, shopClient, shopSuite, startShop } from './shop-suite.ts'

const seed = Number(process.env.RUNG_TEST_SEED ?? 7)
const buyers = 6
const stock = 150
const killsMin = 6
const sources = ['tok', 'tok_twice', 'tok_lost', 'tok_early', 'tok_declined', 'tok_silent', 'tok_slow']
const skus = ['cup', 'pot']

/** Buyers repeat what was not answered, with the same key, while parts of the fleet are killed. */
describe(`shop at 100k, while its parts are killed (RUNG_TEST_SEED=${seed})`, {
  skip: noRedis || noNginx || noHaproxy || noPooler,
}, () => {
  const patience = new Patience()
  let shop: ShopTarget
  let kills: FleetKills
  before(async () => {
    shop = await startShop('100k')
    kills = killParts({ dataDir: shop.scratch.dataDir, seed, victims: victimsOf100k })
  })
  after(async () => {
    await kills?.stop().catch(() => {})
    await shop?.end()
  })
  const api = shopClient(() => ({ ...shop, patience }))
  shopSuite(() => ({ ...shop, patience }))

  it('sells no more than there is, charges each order once, and leaves none open', async () => {
    const client = await shop.scratch.connect()
    const rows = async <Row>(text: string, values: unknown[] = []) => (await client.query(text, values)).rows as Row[]
    const tea = await api.open(skus, stock)
    const acknowledged: string[] = []
    let refused = 0
    async function buy(buyer: number): Promise<void> {
      const customer = await api.customer(tea)
      const isEnough = () => refused > 0 && acknowledged.length > 100 && kills.killed.length >= killsMin
      for (let n = 0; !isEnough(); n += 1) {
        const lines = (n % 2 ? skus : skus.toReversed()).map((sku) => ({ sku, quantity: 1 + ((n + buyer) % 3) }))
        const source = sources[(n + buyer) % sources.length]
        const { status, body } = await api.send<Order>(customer, '/orders', { body: { lines, source } })
        assert.ok(status === 201 || status === 409, `${status} ${JSON.stringify(body)}`)
        if (status === 409) {
          refused += 1
          // Others may buy.
          await api.expect(200, tea, `/products/${lines[0]!.sku}/stock`, { body: { change: 5 } })
          continue
        }
        acknowledged.push(body.id)
        // On whichever node and server, also when Redis has forgotten everything.
        const { lines: ordered } = await api.expect<Order>(200, customer, `/orders/${body.id}`)
        assert.equal(ordered.length, 2)
        // One that was declined meanwhile cannot be cancelled.
        if (n % 7 === 6) await api.send(customer, `/orders/${body.id}/cancel`, { body: {} })
      }
    }
    await Promise.all(Array.from({ length: buyers }, (_, n) => buy(n)))
    await kills.stop()

    // Until no work is left but the expiry of orders, the provider has sent everything, and no order waits for its payment.
    await until(async () => {
      await shop.provider.idle()
      const [left] = await rows<{ jobs: number; orders: number }>(`
        select (select count(*)::int from rung.job where name <> 'sales.expire' and name not like 'rung%' and dead_at is null) as jobs,
          (select count(*)::int from sales.customer_order where state = 'placed') as orders`)
      return left!.jobs === 0 && left!.orders === 0
    }, 'all payments are settled')

    assert.deepEqual(await rows('select name, error from rung.job where dead_at is not null'), [])
    const [{ tenant }] = (await rows<{ tenant: string }>(
      'select tenant_id as tenant from sales.customer_order where id = $1',
      [acknowledged[0]],
    )) as [{ tenant: string }]
    const orders = await rows<{ id: string; state: string; total: number }>(
      'select id, state, total::float8 as total from sales.customer_order where tenant_id = $1',
      [tenant],
    )
    assert.deepEqual(orders.map(({ id }) => id).sort(), acknowledged.sort())
    const [counted] = await rows<{ available: number; sold: number }>(
      `select sum(available)::int as available, (select coalesce(sum(quantity), 0)::int from sales.order_line
          join sales.customer_order on id = order_id where tenant_id = $1 and state in ('paid', 'shipped')) as sold
        from sales.product where tenant_id = $1`,
      [tenant],
    )
    assert.equal(counted!.available + counted!.sold, skus.length * stock + 5 * refused)
    const [sums] = await rows<{ all: number; held: number }>(
      `select coalesce(sum(amount), 0)::float8 as all, coalesce(sum(amount) filter (where account = 'held'), 0)::float8 as held
        from sales.ledger_entry where tenant_id = $1`,
      [tenant],
    )
    const paid = orders.filter(({ state }) => state === 'paid')
    const worth = paid.reduce((sum, { total }) => sum + total, 0)
    assert.deepEqual(sums, { all: 0, held: worth })
    const own = new Set(acknowledged)
    const captured = [...shop.provider.charges.values()].filter(
      ({ key, status }) => own.has(key) && status === 'captured',
    )
    assert.deepEqual(captured.map(({ key }) => key).sort(), paid.map(({ id }) => id).sort())
    assert.equal(
      shop.provider.movements.filter(({ key }) => own.has(key)).reduce((sum, { amount }) => sum + amount, 0),
      worth,
    )
    assert.ok(paid.length > 0 && refused > 0, `${paid.length} paid, ${refused} refused`)
    if (process.env.RUNG_TEST_SEED)
      console.error(
        JSON.stringify({ killed: kills.killed, repeated: patience.repeated, unknown: patience.unknown.length }),
      )
    assert.deepEqual(patience.failed, [])
  })
})
