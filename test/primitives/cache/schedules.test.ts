import { after, before, it } from 'node:test'
import { type TestPostgres, testPostgres } from '../../support/postgres.ts'
import { noRedis } from '../../support/redis.ts'
import { troubleRedis } from '../../support/redis-trouble.ts'

let postgres: TestPostgres
before(async () => {
  postgres = await testPostgres()
})
after(() => postgres.stop())

/** Each of the eight troubles once, and four again; `bench/schedules.ts`: 40. */
const strikes = 12

it(`random schedules on nodes that share a Redis with trouble, ${strikes} times: everybody sees their own writes`, {
  skip: noRedis,
}, async (context) => {
  context.diagnostic(await troubleRedis(postgres, strikes))
})
