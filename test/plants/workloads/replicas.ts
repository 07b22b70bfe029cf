import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { sleep } from '../../../src/kernel/clock.ts'
import { seededRandom } from '../../../src/kernel/random.ts'
import { openNode } from '../../support/session-reads.ts'
import { askOne, startCluster, untilReplicaReads } from '../../support/standby.ts'
import { counter, counterTable, datasOf } from '../counters.ts'
import type { Workload } from '../workload.ts'

const [sessions, steps, counters, visitors] = [8, 40, 4, 20]
/** So late is the replica always. */
const applyDelayMs = 80
/** A replica that is later than this is not read. */
const lagMsMax = 600
/** A node asks the servers where they are from time to time, and later on a busy machine. */
const staleMsMax = lagMsMax + 2_400
const pauseMs = staleMsMax + 800
/** One of so many histories has it: it takes seconds. */
const standsStillEvery = 5

/** Sessions count up and read on two nodes, over a primary and a replica that is late, and now and then stands still. */
const replicas: Workload = {
  promises: [
    'acknowledged-writes',
    'read-your-writes',
    'monotonic-reads',
    'writes-follow-reads',
    'bounded-staleness',
    'no-lost-update',
  ],
  async open() {
    const dir = await mkdtemp(path.join(tmpdir(), 'rung-test-'))
    const cluster = await startCluster(dir, 1, { applyDelayMs })
    const [replica] = cluster.replicas
    await askOne(cluster.primary.connection, counterTable)
    const nodes = [openNode(cluster, lagMsMax), openNode(cluster, lagMsMax)]
    const datas = datasOf(nodes)
    return {
      async run(seed, recorder) {
        const names = Array.from({ length: counters }, (_, n) => `counter ${seed}.${n}`)
        const counting = { recorder, random: seededRandom(seed), datas, names, staleMsMax }
        await replica!.caughtUp()
        for (const node of nodes) await untilReplicaReads(node)
        await Promise.all(
          Array.from({ length: sessions }, async (_, n) => {
            const step = counter(`session ${n}`, counting)
            for (let count = 0; count < steps; count += 1) await step()
          }),
        )
        if (seed % standsStillEvery !== 2) return
        await replica!.pause()
        await Promise.all(
          Array.from({ length: visitors }, async (_, n) => {
            await sleep((n * pauseMs) / visitors)
            const step = counter(`visitor ${n}`, counting)
            for (let count = 0; count < 3; count += 1) await step()
          }),
        )
        await replica!.resume()
      },
      async close() {
        for (const node of nodes) await node.close()
        await cluster.stop()
        await rm(dir, { recursive: true, force: true })
      },
    }
  },
}
export default replicas
