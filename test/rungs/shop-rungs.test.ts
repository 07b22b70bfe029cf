import { after, before, describe } from 'node:test'
import { noHaproxy } from '../support/haproxy.ts'
import { noNats } from '../support/nats.ts'
import { noNginx } from '../support/nginx.ts'
import { noPooler } from '../support/pgbouncer.ts'
import { noRedis } from '../support/redis.ts'
import { type ShopTarget, shopSuite, startShop } from './shop-suite.ts'

/** The same app and the same suite at every rung. */
const rungs = {
  '1k': false,
  '10k': noRedis || noNginx,
  '100k': noRedis || noNginx || noHaproxy || noPooler,
  '500k': noRedis || noNginx || noHaproxy || noPooler || noNats,
}
/** What the provider of payments asks for does not wait for a sale, and the other way round. */
const apart = { RUNG_NODES: JSON.stringify({ money: { modules: ['payments'], web: 1, worker: 1 } }) }
for (const [rung, skip] of Object.entries(rungs))
  describe(`shop at ${rung}`, { skip }, () => {
    let shop: ShopTarget
    before(async () => {
      shop = await startShop(rung, [], rung === '500k' ? apart : {})
    })
    after(() => shop?.end())
    shopSuite(() => shop)
  })
