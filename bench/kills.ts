import { killWorkers, openOrderFleet } from '../test/support/order-kills.ts'
import { testPostgres, urlOf, withTempDir } from '../test/support/postgres.ts'
import { killPuts } from '../test/support/put-kills.ts'
import { killTills } from '../test/support/till-kills.ts'
import type { Bench } from './run.ts'
import { machineFacts, progress } from './support/report.ts'

const kills = { files: 100, idempotency: 60, jobs: 200 }

/** The long form of `test/primitives/{jobs,idempotency}/kills.test.ts` and of the kills in `files/disk.test.ts`. */
const bench: Bench = {
  claim:
    'killed hundreds of times at every moment, jobs, keyed requests and files lose nothing, and nothing happens twice (it fails otherwise)',
  async run({ json, rounds = 1 }) {
    const found: string[] = []
    const tell = (text: string) => {
      found.push(text)
      if (!json) progress(text)
    }
    for (let round = 0; round < rounds; round += 1) {
      await withTempDir(async (folder) => tell(`files: ${await killPuts(folder, kills.files)}`))
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
