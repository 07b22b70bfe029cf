import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import type { Recorder } from '../../../src/history.ts'
import { sleep } from '../../../src/kernel/clock.ts'
import { type Random, seededRandom } from '../../../src/kernel/random.ts'
import { createData, type Data } from '../../../src/primitives/data/data.ts'
import { session } from '../../support/cache.ts'
import { openNode } from '../../support/session-reads.ts'
import { askOne, startCluster, untilReplicaReads } from '../../support/standby.ts'
import type { Workload } from '../workload.ts'

const [sessions, steps, counters] = [8, 40, 4]
/** So late is the replica always. */
const applyDelayMs = 80
/** A replica that is later than this is not read. */
const lagMsMax = 600
/** A node asks the servers where they are from time to time, and later on a busy machine. */
const staleMsMax = lagMsMax + 2_400
const pauseMs = staleMsMax + 800

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
    await askOne(cluster.primary.connection, 'create table counter (name text primary key, n int not null)')
    const nodes = [openNode(cluster, lagMsMax), openNode(cluster, lagMsMax)]
    const datas = nodes.map((node) => createData(node).forModule('counters'))
    return {
      async run(seed, recorder) {
        const random = seededRandom(seed)
        const names = Array.from({ length: counters }, (_, n) => `counter ${seed}.${n}`)
        await datas[0]!.write((tx) => tx`insert into counter select unnest(${names}::text[]), 0`)
        await replica!.caughtUp()
        for (const node of nodes) await untilReplicaReads(node)
        await Promise.all(
          Array.from({ length: sessions }, (_, n) =>
            countInSession(`session ${seed}.${n}`, { random, names, datas, recorder }),
          ),
        )
        if (seed % standsStillEvery !== 1) return
        await replica!.pause()
        const visitors = Array.from({ length: 20 }, async (_, n) => {
          await sleep((n * pauseMs) / 20)
          await countInSession(`visitor ${seed}.${n}`, { random, names, datas, recorder, steps: 3 })
        })
        await Promise.all(visitors)
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

/** The replica stands still in one of so many histories: that takes seconds. */
const standsStillEvery = 5

interface Counting {
  random: Random
  names: readonly string[]
  datas: readonly Data[]
  recorder: Recorder
  steps?: number
}

async function countInSession(name: string, { random, names, datas, recorder, steps: count = steps }: Counting) {
  const who = session()
  const pick = <T>(from: readonly T[]) => from[Math.floor(random() * from.length)]!
  for (let step = 0; step < count; step += 1) {
    const [key, data, kind] = [pick(names), pick(datas), random()]
    const on = { session: name, key, node: `node ${datas.indexOf(data)}` }
    const select = (sql: Parameters<Parameters<Data['read']>[0]>[0]) =>
      sql<{ n: number }>`select n from counter where name = ${key}`
    if (kind < 0.2) {
      const writing = recorder.begin({ kind: 'write', ...on })
      const [row] = await who(() =>
        data.write((tx) => tx<{ n: number }>`update counter set n = n + 1 where name = ${key} returning n`),
      )
      writing.ok({ version: row!.n })
    } else {
      const fresh = kind < 0.3
      const reading = recorder.begin({ kind: 'read', ...on, staleMsMax, ...(fresh && { fresh }) })
      const [row] = await who(() => (fresh ? data.write(select) : data.read(select)))
      reading.ok(row!.n === 0 ? { value: null } : { version: row!.n })
    }
    await sleep(random() * 10)
  }
}
