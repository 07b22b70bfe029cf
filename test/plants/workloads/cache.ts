import type { Recorder } from '../../../src/history.ts'
import { sleep } from '../../../src/kernel/clock.ts'
import { type CacheNode, openThing, redisNodes, schedule, session, type Thing } from '../../support/cache.ts'
import type { Workload } from '../workload.ts'

const rounds = 12

/** Sessions read and write rows through the caches of two nodes with a shared layer, also while another transaction is slow. */
const cache: Workload = {
  // What a session reads of others' writes may go back from one node to another, see ADR 18.
  promises: ['read-your-writes', 'no-stale-set'],
  async open(postgres) {
    const { nodes, close } = await redisNodes(postgres)
    return {
      async run(seed, recorder) {
        const things = await Promise.all(Array.from({ length: 3 }, () => openThing(nodes[0])))
        for (let round = 1; round <= rounds; round += 1) {
          const slow = writeSlowly(things[round % things.length]!, nodes, `slow ${seed}.${round}`, recorder)
          await schedule(seed * 1_000 + round, things, nodes, recorder)
          await slow
        }
      },
      close,
    }
  },
}
export default cache

/** Its transaction is under way while others commit; then it reads on the other node. */
async function writeSlowly(thing: Thing, [one, other]: readonly CacheNode[], name: string, recorder: Recorder) {
  const who = session()
  const on = { session: name, key: thing.name }
  const writing = recorder.begin({ kind: 'write', ...on })
  writing.ok({ version: await who(() => thing.write(one!, { before: sleep(20) })) })
  const reading = recorder.begin({ kind: 'read', ...on, cached: true, node: 'node 1, itself' })
  reading.ok({ version: await who(() => thing.get(other!)) })
}
