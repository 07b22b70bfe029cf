import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { seededRandom } from '../../../src/kernel/random.ts'
import { until } from '../../support/process.ts'
import { openNode, openNodeOn } from '../../support/session-reads.ts'
import { askOne, startCluster, untilReplicaReads } from '../../support/standby.ts'
import { counter, counterTable, datasOf } from '../counters.ts'
import type { Workload } from '../workload.ts'

const [sessions, steps] = [6, 20]

/**
 * Somebody else promotes a replica, and nobody ends the old primary, which the other replica still follows: its log grows, and is of no worth.
 * Once the nodes have seen the new one, sessions go on there.
 */
const promotion: Workload = {
  promises: [
    'acknowledged-writes',
    'read-your-writes',
    'monotonic-reads',
    'writes-follow-reads',
    'single-writer',
    'no-lost-update',
  ],
  async open() {
    return {
      async run(seed, recorder) {
        const dir = await mkdtemp(path.join(tmpdir(), 'rung-test-'))
        const cluster = await startCluster(dir, 2)
        const { primary, replicas } = cluster
        const nodes = [openNode(cluster), openNode(cluster)]
        const operator = openNodeOn([replicas[0]!.connection])
        try {
          await askOne(primary.connection, counterTable)
          for (const node of nodes) await untilReplicaReads(node)
          const counting = { recorder, random: seededRandom(seed), datas: datasOf(nodes), names: ['a', 'b', 'c'] }
          const counters = Array.from({ length: sessions }, (_, n) => counter(`session ${n}`, counting))
          const goOn = () =>
            Promise.all(
              counters.map(async (step) => {
                for (let count = 0; count < steps; count += 1) await step()
              }),
            )
          await goOn()
          const [next] = replicas
          await next!.caughtUp()
          await askOne(next!.admin, 'select pg_promote()')
          const isSeen = () =>
            nodes.every((node) => node.servers().some(({ name, role }) => name === next!.name && role === 'primary'))
          await until(isSeen, 'all nodes have seen the new primary')
          await askOne(primary.connection, `select pg_logical_emit_message(false, 'rung', repeat('x', 2000000))`)
          await counter('the operator', { ...counting, datas: datasOf([operator]) })('fresh read')
          await goOn()
        } finally {
          for (const node of [...nodes, operator]) await node.close()
          await cluster.stop()
          await rm(dir, { recursive: true, force: true })
        }
      },
      async close() {},
    }
  },
}
export default promotion
