import { after, before, describe } from 'node:test'
import { noHaproxy } from '../support/haproxy.ts'
import { noNginx } from '../support/nginx.ts'
import { noPooler } from '../support/pgbouncer.ts'
import { noRedis } from '../support/redis.ts'
import { type ShopTarget, shopSuite, startShop } from './shop-suite.ts'

/** The same app and the same suite at every rung. */
const rungs = {
  '1k': false,
  '10k': noRedis || noNginx,
  '100k': noRedis || noNginx || noHaproxy || noPooler,
}
for (const [rung, skip] of Object.entries(rungs))
  describe(`shop at ${rung}`, { skip }, () => {
    let shop: ShopTarget
    before(async () => {
      shop = await startShop(rung)
    })
    after(() => shop?.end())
    shopSuite(() => shop)
  })
