import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { defineApp, defineModule } from 'rung'
import { isRungError } from '../../src/kernel/errors.ts'
import { toDataError } from '../../src/primitives/data/errors.ts'
import { bootForTest } from '../support/app.ts'
import { type TestPostgres, testPostgres, urlOf } from '../support/postgres.ts'
import { until } from '../support/process.ts'
import { noRedis, patientRedis, testRedis } from '../support/redis.ts'

const broken = defineModule({
  name: 'orders',
  owner: 'tests',
  routes() {
    throw new Error('the routes of a module fail')
  },
})
const app = defineApp({ name: 'failing', modules: [broken] })

let postgres: TestPostgres
before(async () => {
  postgres = await testPostgres()
})
after(() => postgres.stop())

describe('a start that fails', () => {
  it('runs what is to be done when HTTP closes, so that no timer is left, while the database is still open', async () => {
    const closed: string[] = []
    const start = bootForTest(app, postgres, {}, [
      (http, { data }) => {
        http.addHook('onClose', async () => {
          await data.forModule(undefined).read((sql) => sql`select 1`)
          closed.push('closed')
        })
      },
    ])
    await assert.rejects(start, /the routes of a module fail/)
    assert.deepEqual(closed, ['closed'])
  })

  it('closes its connection to Redis when it fails before anything uses it', { skip: noRedis }, async () => {
    const redis = await testRedis()
    const observer = await patientRedis(redis.url)
    const clients = async () =>
      String(await observer.native.client('LIST'))
        .trim()
        .split('\n').length
    try {
      const databases = [{ name: 'main', url: urlOf(await postgres.createDatabase()), modules: [] }]
      const start = bootForTest(app, postgres, { databases }, [], { RUNG_REDIS_URL: redis.url })
      await assert.rejects(start, /Two databases are named "main"/)
      await until(async () => (await clients()) === 1, 'only the one that looks is connected')
    } finally {
      observer.close()
      await redis.stop()
    }
  })

  it('names the database that cannot be reached', async () => {
    const databases = [{ name: 'billing', url: 'postgres://nobody@127.0.0.1:1/x', modules: ['orders'] }]
    await assert.rejects(bootForTest(app, postgres, { databases }), (error) => {
      assert.ok(isRungError(error, 'DATA_UNAVAILABLE'))
      assert.match(error.message, /"billing".*ECONNREFUSED.*rung\.config\.ts/)
      return true
    })
    assert.equal(toDataError(new Error('timeout expired')).code, 'DATA_UNAVAILABLE')
  })
})
