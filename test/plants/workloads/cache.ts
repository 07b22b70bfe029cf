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

/** Its transaction is under way while others commit and read. Then it reads on the other node, and a stranger on the same. */
async function writeSlowly(thing: Thing, [one, other]: readonly CacheNode[], name: string, recorder: Recorder) {
  const who = session()
  const key = thing.name
  const read = async (of: string, node: CacheNode, at: string, as: ReturnType<typeof session>) => {
    const reading = recorder.begin({ kind: 'read', session: of, key, cached: true, node: at })
    reading.ok({ version: await as(() => thing.get(node)) })
  }
  const readAsStranger = (which: string) => read(`${which} of ${name}`, one!, 'node 0, itself', session())
  const writing = recorder.begin({ kind: 'write', session: name, key, node: 'node 0, itself' })
  const written = who(() => thing.write(one!, { before: sleep(20) }))
  await sleep(10)
  await readAsStranger('one')
  writing.ok({ version: await written })
  await Promise.all([readAsStranger('another'), read(name, other!, 'node 1, itself', who)])
}
