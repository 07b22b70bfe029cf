import { clusterNodes, memoryNodes, redisNodes, runSchedules } from '../test/support/cache.ts'
import { testPostgres } from '../test/support/postgres.ts'
import { troubleRedis } from '../test/support/redis-trouble.ts'
import type { Bench } from './run.ts'
import { machineFacts, progress } from './support/report.ts'

/** With `--rounds`, other seeds in each round. */
const schedules = 2_000
const strikes = 40

/** The long form of the last test of `test/contracts/cache.ts`, and of `test/primitives/cache/schedules.test.ts`. */
const bench: Bench = {
  claim: 'in thousands of random schedules no cached value is older than its reader may see (it fails otherwise)',
  async run({ json, rounds = 1 }) {
    const postgres = await testPostgres()
    try {
      for (const [name, open] of [
        ['memory', memoryNodes],
        ['redis', redisNodes],
        ['redis in a cluster', clusterNodes],
      ] as const) {
        const under = await open(postgres)
        try {
          await runSchedules(under.nodes, { from: 1, to: schedules * rounds })
        } finally {
          await under.close()
        }
        if (!json) progress(`${name}: ${schedules * rounds} schedules, no value older than allowed`)
      }
      const trouble = await troubleRedis(postgres, strikes * rounds)
      if (!json) progress(`Redis with trouble: ${trouble}`)
    } finally {
      await postgres.stop()
    }
    return {
      claim: bench.claim,
      facts: machineFacts('18'),
      schedules: schedules * rounds,
      strikes: strikes * rounds,
    }
  },
}
export default bench
