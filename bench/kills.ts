import { killWorkers, openOrderFleet } from '../test/support/order-kills.ts'
import { testPostgres, urlOf } from '../test/support/postgres.ts'
import { killTills } from '../test/support/till-kills.ts'
import type { Bench } from './run.ts'
import { machineFacts, progress } from './support/report.ts'

const kills = { jobs: 200, idempotency: 60 }

/** The long form of `test/primitives/{jobs,idempotency}/kills.test.ts`. */
const bench: Bench = {
  claim:
    'killed hundreds of times at every moment, jobs and keyed requests lose nothing and do nothing twice (it fails otherwise)',
  async run({ json, rounds = 1 }) {
    const found: string[] = []
    const tell = (text: string) => {
      found.push(text)
      if (!json) progress(text)
    }
    for (let round = 0; round < rounds; round += 1) {
      const fleet = await openOrderFleet()
      try {
        tell(`jobs: ${await killWorkers(fleet, kills.jobs)}`)
      } finally {
        await fleet.close()
      }
      const postgres = await testPostgres()
      try {
        tell(`idempotency: ${await killTills(urlOf(await postgres.createDatabase()), kills.idempotency)}`)
      } finally {
        await postgres.stop()
      }
    }
    return { claim: bench.claim, facts: machineFacts('18'), kills, found }
  },
}
export default bench
