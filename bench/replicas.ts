import { createData } from '../src/primitives/data/data.ts'
import { postgresDatabase } from '../src/primitives/data/postgres.ts'
import { testLimits } from '../test/support/data.ts'
import { openScratch } from '../test/support/process.ts'
import { openNode, readInSessions } from '../test/support/session-reads.ts'
import { askOne, type Cluster, startCluster, untilReplicaReads } from '../test/support/standby.ts'
import type { Bench } from './run.ts'
import { machineFacts, progress, spread, table } from './support/report.ts'

/** Lag of the replicas in ms, and how many reads; with `--rounds`, so many times as many. A million in all. */
const lags = [
  [0, 400_000],
  [100, 400_000],
  [1_000, 100_000],
  [2_000, 100_000],
] as const
/** A replica can follow a session that thinks between its requests; one that reads without a pause stays ahead of a replica that lags. */
const sessionsAtATime = 4_000
const thinkMs = 1_000
const costRounds = 7
const costReads = 4_000

/** Sessions that go from node to node read counters that others change; then what one read costs. */
const bench: Bench = {
  claim:
    'on three nodes and two replicas that lag, no session reads less than it has written or read (it fails otherwise)',
  async run({ json, rounds = 1 }) {
    const scratch = await openScratch()
    const cluster = await startCluster(scratch.dir, 2)
    try {
      const sessions = []
      for (const [lagMs, count] of lags) {
        await delay(cluster, lagMs)
        const nodes = [openNode(cluster), openNode(cluster), openNode(cluster)]
        try {
          for (const node of nodes) await untilReplicaReads(node)
          const reads = count * rounds
          const result = await readInSessions(nodes, {
            reads,
            sessions: sessionsAtATime,
            thinkMs,
            writeShare: 0.02,
            onStep: (done) => !json && done % 50_000 === 0 && progress(`lag ${lagMs} ms: ${done} of ${reads} reads`),
          })
          if (result.stale.length > 0) throw new Error(`${result.stale.length} stale: ${result.stale[0]}`)
          const replica = Object.entries(result.routed).filter(([key]) => key.endsWith(' replica'))
          const share = replica.reduce((sum, [, count]) => sum + count, 0) / result.reads
          sessions.push({ lagMs, ...result, stale: 0, replicaShare: Math.round(share * 1_000) / 1_000 })
        } finally {
          for (const node of nodes) await node.close()
        }
      }
      await delay(cluster, 0)
      const cost = await costOfRead(cluster)
      if (!json) {
        const rows = sessions.map((one) => [
          `${one.lagMs} ms`,
          String(one.reads),
          String(one.writes),
          String(one.stale),
          String(one.refused.DATA_BEHIND ?? 0),
          `${(one.replicaShare * 100).toFixed(1)} %`,
        ])
        progress(table([['lag', 'reads', 'writes', 'stale', 'refused', 'on replicas'], ...rows]))
        progress(`a read on a replica with its position, against one without: ${JSON.stringify(cost)}`)
      }
      return { claim: bench.claim, facts: machineFacts('18'), sessions, cost }
    } finally {
      await cluster.stop()
      await scratch.end()
    }
  },
}
export default bench

async function delay({ replicas }: Cluster, ms: number): Promise<void> {
  for (const { admin } of replicas) {
    await askOne(admin, `alter system set recovery_min_apply_delay = '${ms}ms'`)
    await askOne(admin, 'select pg_reload_conf()')
  }
}

/** One after the other on one server, in turn: through the router, and straight. Milliseconds of one read. */
async function costOfRead(cluster: Cluster) {
  const routed = openNode(cluster)
  const straight = postgresDatabase({
    name: 'main',
    connection: cluster.replicas[0]!.connection,
    limits: testLimits,
    connectionsMax: { read: 8, write: 8 },
    idleTimeoutMs: 60_000,
  })
  try {
    await untilReplicaReads(routed)
    const measures = [straight, routed].map((database) => {
      const data = createData(database).forModule('counters')
      return async () => {
        const [start, cpu] = [performance.now(), process.cpuUsage()]
        for (let n = 0; n < costReads; n += 1) await data.read((sql) => sql`select n from counter where id = ${n % 24}`)
        const { user, system } = process.cpuUsage(cpu)
        return { ms: (performance.now() - start) / costReads, cpuMs: (user + system) / 1_000 / costReads }
      }
    })
    const added: number[] = []
    const addedCpu: number[] = []
    for (let round = 0; round <= costRounds; round += 1) {
      const [one, other] = [await measures[0]!(), await measures[1]!()]
      if (round === 0) continue // the first prepares the statements
      added.push(other.ms - one.ms)
      addedCpu.push(other.cpuMs - one.cpuMs)
    }
    return { addedMs: spread(added), addedCpuMs: spread(addedCpu) }
  } finally {
    await routed.close()
    await straight.close()
  }
}
