import { killMesh, openMeshFleet } from '../test/support/mesh-kills.ts'
import type { Bench } from './run.ts'
import { machineFacts, progress } from './support/report.ts'

/** The long form of `test/primitives/events/kills.test.ts`. */
const bench: Bench = {
  claim:
    'while broker, workers and database are killed, and the broker loses what it has, no event is lost, none is handled twice, and keys keep their order (it fails otherwise)',
  async run({ json, million, rounds = 1 }) {
    const [kills, events] = million ? [200, 1_000_000] : [33, 60_000]
    const found: string[] = []
    for (let round = 0; round < rounds; round += 1) {
      const fleet = await openMeshFleet()
      try {
        found.push(await killMesh(fleet, kills, events))
        if (!json) progress(found.at(-1)!)
      } finally {
        await fleet.close()
      }
    }
    return { claim: bench.claim, facts: machineFacts('18'), kills, events, found }
  },
}
export default bench
