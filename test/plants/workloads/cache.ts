import type { Recorder } from '../../../src/history.ts'
import { sleep } from '../../../src/kernel/clock.ts'
import { type CacheNode, schedule, session, type Thing } from '../../support/cache.ts'
import { bare, openFleet } from '../../support/cache-fleet.ts'
import type { Workload } from '../workload.ts'

const rounds = 12

/**
 * Sessions read and write rows through the caches of several nodes with a shared layer, also while another transaction is slow. Two of the nodes
 * hear of writes only when they read the log by themselves.
 */
const cache: Workload = {
  promises: ['read-your-writes', 'monotonic-reads', 'writes-follow-reads', 'no-stale-set'],
  async open(postgres) {
    const fleet = await openFleet(postgres)
    const nodes = [await fleet.node(), await fleet.node()]
    const late = [await fleet.node({ deaf: true, ...bare }), await fleet.node({ deaf: true })]
    return {
      async run(seed, recorder) {
        const things = await fleet.things(3)
        for (let round = 1; round <= rounds; round += 1) {
          const slow = writeSlowly(
            things[round % things.length]!,
            [...nodes, ...late],
            `slow ${seed}.${round}`,
            recorder,
          )
          await schedule(seed * 1_000 + round, things, nodes, recorder)
          await slow
        }
      },
      close: () => fleet.close(),
    }
  },
}
export default cache

/**
 * Its transaction is under way while others commit and read. Then it reads on the other node, one stranger on the same, and another on those that
 * are late: first on the one that keeps nothing and loads, then on the one that has the value from before.
 */
async function writeSlowly(thing: Thing, nodes: readonly CacheNode[], name: string, recorder: Recorder): Promise<void> {
  const who = session()
  const key = thing.name
  const read = async (of: string, node: number, as: ReturnType<typeof session>) => {
    const at = `node ${node}, itself`
    const reading = recorder.begin({ kind: 'read', session: `${of} of ${name}`, key, cached: true, node: at })
    reading.ok({ version: await as(() => thing.get(nodes[node]!)) })
  }
  const writing = recorder.begin({ kind: 'write', session: `writer of ${name}`, key, node: 'node 0, itself' })
  const written = who(() => thing.write(nodes[0]!, { before: sleep(20) }))
  await sleep(10)
  await Promise.all([read('visitor', 0, session()), read('early bird', 3, session())])
  writing.ok({ version: await written })
  const traveller = session()
  await Promise.all([
    read('stranger', 0, session()),
    read('writer', 1, who),
    read('traveller', 2, traveller).then(() => read('traveller', 3, traveller)),
  ])
}
