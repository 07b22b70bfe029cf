import conduit from '../examples/conduit/app.ts'
import { anyRequests } from '../test/rungs/conduit-properties.ts'
import { bootForTest } from '../test/support/app.ts'
import { testPostgres } from '../test/support/postgres.ts'
import type { Bench } from './run.ts'
import { machineFacts, progress, table } from './support/report.ts'

/** In each round, with another seed. */
const requests = 50_000

/** The long form of `test/rungs/conduit-properties.ts`. */
const bench: Bench = {
  claim: 'in any sequence of requests to Conduit no answer is a 5xx, and each is in its schema (it fails otherwise)',
  async run({ json, rounds = 1 }) {
    const postgres = await testPostgres()
    const running = await bootForTest(conduit, postgres)
    const statuses: Record<number, number> = {}
    let sent = 0
    try {
      for (let seed = 1; seed <= rounds; seed += 1) {
        let toldAt = 0
        const onSequence = (count: number) => {
          if (json || count < toldAt + 5_000) return
          toldAt = count
          progress(`seed ${seed}: ${count} requests`)
        }
        const reached = await anyRequests(() => ({ baseUrl: running.url }), requests, { seed, onSequence })
        for (const status of Object.values(reached).flat()) {
          statuses[status] = (statuses[status] ?? 0) + 1
          sent += 1
        }
      }
    } finally {
      await running.stop()
      await postgres.stop()
    }
    if (!json) {
      const rows = Object.entries(statuses).map(([status, count]) => [status, String(count)])
      progress(table([['status', 'answers'], ...rows]))
    }
    return { claim: bench.claim, facts: machineFacts('18'), requests: sent, statuses }
  },
}
export default bench
