import { after, before, it } from 'node:test'
import { type TestPostgres, testPostgres, urlOf } from '../../support/postgres.ts'
import { killTills } from '../../support/till-kills.ts'

/** Visits each moment of a request; `bench/kills.ts` kills five times as often. */
const kills = 12

let postgres: TestPostgres
before(async () => {
  postgres = await testPostgres()
})
after(() => postgres.stop())

it(`${kills} kills: each key has one effect and one answer, however often it is sent`, async (context) => {
  context.diagnostic(await killTills(urlOf(await postgres.createDatabase()), kills))
})
