import type { ConnectionConfig } from '../../src/engines/postgres/client.ts'
import { serverNames } from '../../src/engines/postgres/recipe.ts'
import { checkHistory, createRecorder } from '../../src/history.ts'
import { sleep } from '../../src/kernel/clock.ts'
import { isRungError, type RungError } from '../../src/kernel/errors.ts'
import { runInScope, Scope } from '../../src/kernel/scope.ts'
import { type ReadRouted, readRouted } from '../../src/primitives/data/channels.ts'
import { clusterDatabase } from '../../src/primitives/data/cluster.ts'
import type { Database } from '../../src/primitives/data/contract.ts'
import { createData } from '../../src/primitives/data/data.ts'
import { postgresServer } from '../../src/primitives/data/postgres.ts'
import { testLimits } from './data.ts'
import type { Cluster } from './standby.ts'

export interface SessionReads {
  reads: number
  writes: number
  /** The history's anomalies in words: reads that showed less than the session had written or read before. */
  stale: string[]
  /** By server and reason, as in `ReadRouted`. */
  routed: Record<string, number>
  /** Operations that failed, by code. */
  refused: Record<string, number>
}

export interface SessionReadsOptions {
  reads: number
  nodes?: number
  /** Sessions that run at the same time. Each goes from node to node, as behind a balancer. */
  sessions?: number
  /** Share of operations that write. */
  writeShare?: number
  /** A session waits about this long before it does something again. Default 0. */
  thinkMs?: number
  /** The primary is lost meanwhile: an operation may find none, and the outcome of a write may be unknown. */
  losesPrimary?: boolean
  /** Each request forgets what its session has seen, which is wrong: the history must show it. */
  forgets?: boolean
  /** After each 1,000 reads. */
  onStep?(done: number): unknown
}

/** A node of the app's, as far as the database is concerned: each has its own knowledge of the servers. */
export function openNode({ primary, replicas }: Cluster, lagMsMax = 60_000): Database {
  return openNodeOn([primary.connection, ...replicas.map(({ connection }) => connection)], lagMsMax)
}

export function openNodeOn(servers: readonly ConnectionConfig[], lagMsMax = 60_000): Database {
  const names = serverNames(servers.length)
  return clusterDatabase({
    name: 'main',
    servers: servers.map((connection, index) =>
      postgresServer({
        name: names[index]!,
        connection,
        limits: testLimits,
        connectionsMax: { read: 8, write: 8 },
        idleTimeoutMs: 60_000,
      }),
    ),
    lagMsMax,
    primaryReadsMax: 8,
  })
}

/**
 * Sessions write counters and read them back on other nodes, and the sum of all counters. A write counts up, and also reads both on
 * the primary. The history is checked in the end.
 */
export async function readInSessions(nodes: readonly Database[], options: SessionReadsOptions): Promise<SessionReads> {
  const { reads: readsMax, sessions = 24, writeShare = 0.1, thinkMs = 0, losesPrimary, forgets, onStep } = options
  const result: SessionReads = { reads: 0, writes: 0, stale: [], routed: {}, refused: {} }
  const recorder = createRecorder()
  const datas = nodes.map((node) => createData(node).forModule('counters'))
  const count = (message: unknown) => {
    const { database, server, why } = message as ReadRouted
    const key = `${server} ${why}`.trim()
    if (nodes.includes(database)) result.routed[key] = (result.routed[key] ?? 0) + 1
  }
  const setUp = new Scope('task', 'set-up', 'set-up')
  await runInScope(setUp, async () => {
    await datas[0]!.pool.query('create table if not exists counter (id int primary key, n int not null)')
    await datas[0]!.pool.query(
      `insert into counter select id, 0 from generate_series(0, ${sessions - 1}) as id on conflict (id) do update set n = 0`,
    )
  })
  readRouted.subscribe(count)

  let failed = false
  const expected = new Set(['DATA_BEHIND', ...(losesPrimary ? ['DATA_UNAVAILABLE', 'DATA_OUTCOME_UNKNOWN'] : [])])

  async function session(id: number): Promise<void> {
    let { position } = setUp
    const key = `counter ${id}`
    let own = 0
    while (result.reads < readsMax && !failed) {
      const scope = new Scope('request', `session ${id}`, 'session')
      scope.position = forgets ? setUp.position : position
      // As behind a balancer: the next node is another one.
      const nodeIndex = Math.floor(Math.random() * datas.length)
      const data = datas[nodeIndex]!
      const by = { session: `session ${id}`, node: `node ${nodeIndex + 1}` }
      const beginRead = (fresh: boolean) =>
        [key, 'the sum'].map((key) => recorder.begin({ kind: 'read', ...by, key, fresh }))
      try {
        await runInScope(scope, async () => {
          if (Math.random() < writeShare) {
            own += 1
            const writing = recorder.begin({ kind: 'write', ...by, key, value: own })
            const [counter, sum] = beginRead(true)
            const [before] = await data
              .write(
                (tx) => tx<{ n: number; sum: number }>`with all_of as (select sum(n)::int as sum from counter)
                  update counter set n = ${own} where id = ${id} returning n, (select sum from all_of) as sum`,
              )
              .catch((error) => {
                if (isRungError(error, 'DATA_OUTCOME_UNKNOWN')) writing.info(error)
                else writing.fail(error)
                throw error
              })
            writing.ok()
            counter!.ok({ value: before!.n })
            sum!.ok({ version: before!.sum })
            result.writes += 1
          }
          const [counter, sum] = beginRead(false)
          const [row] = await data.read(
            (sql) => sql<{ n: number; sum: number }>`select (select n from counter where id = ${id}) as n,
              (select sum(n)::int from counter) as sum`,
          )
          result.reads += 1
          counter!.ok({ value: row!.n === 0 ? null : row!.n })
          sum!.ok({ version: row!.sum })
          if (result.reads % 1_000 === 0) onStep?.(result.reads)
        })
      } catch (error) {
        const { code } = error as RungError
        failed ||= !expected.has(code)
        if (failed) throw error
        result.refused[code] = (result.refused[code] ?? 0) + 1
      }
      position = scope.position
      if (thinkMs > 0) await sleep(thinkMs * (0.5 + Math.random()))
    }
  }

  try {
    const ends = await Promise.allSettled(Array.from({ length: sessions }, (_, id) => session(id)))
    for (const end of ends) if (end.status === 'rejected') throw end.reason
  } finally {
    readRouted.unsubscribe(count)
  }
  for (const { anomalies } of checkHistory(recorder.operations()))
    result.stale.push(...anomalies.map(({ text }) => text))
  return result
}
