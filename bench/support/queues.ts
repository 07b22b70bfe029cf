import type { PoolClient } from 'pg'
import pg from 'pg'
import { Type } from 'typebox'
import type { Data } from '../../src/app/define-module.ts'
import { handle } from '../../src/app/work.ts'
import type { ConnectionConfig } from '../../src/engines/postgres/client.ts'
import { defineEvent } from '../../src/primitives/events/events.ts'
import { defineJob } from '../../src/primitives/jobs/jobs.ts'
import { openPrimitives } from '../../src/runtime/primitives.ts'
import { openDatabase, openSignals } from '../../src/runtime/wire.ts'
import { type AppWork, addWork, startWork } from '../../src/runtime/work.ts'
import { rung1k } from '../../src/topology/rungs/1k.ts'

/** Queues on Postgres behind one face, each used as its authors recommend for speed. */
export interface QueueSide {
  /** One transaction that writes a row, alone, with a job, or (Rung only) with an event that one group listens to. */
  write(beside?: 'job' | 'event'): Promise<void>
  bulk(count: number): Promise<void>
  /** Works until the process ends. */
  work(run: (input: { n: number; at?: number }) => Promise<void> | void): Promise<void>
  enqueueAt(at: () => number): Promise<void>
  close(): Promise<void>
}

export type QueueName = (typeof queueNames)[number]
export const queueNames = ['rung', 'graphile-worker', 'pg-boss'] as const

/** Runs at once in one process. */
const concurrency = 24
const poolMax = 20

export async function openQueue(name: QueueName, connection: ConnectionConfig): Promise<QueueSide> {
  if (name === 'rung') return openRung(connection)
  return name === 'graphile-worker' ? openGraphile(connection) : openBoss(connection)
}

async function openRung(connection: ConnectionConfig): Promise<QueueSide> {
  const database = openDatabase(
    { ...rung1k.data, writeConnectionsMax: poolMax, statementTimeoutMs: 60_000, lockTimeoutMs: 60_000 },
    connection,
  )
  const primitives = openPrimitives({
    databases: [{ database }],
    signals: await openSignals(database, async () => connection),
  })
  const data: Data = primitives.data.forModule('bench')
  const job = defineJob('bench.job', Type.Object({ n: Type.Integer(), at: Type.Optional(Type.Number()) }), {
    concurrency,
  })
  const Written = defineEvent('bench.written', Type.Object({ n: Type.Integer() }))
  await primitives.stores.main.outbox.subscribe([{ event: Written.name, group: 'bench', attemptsMax: 10 }])
  let stop = async () => {}
  return {
    async write(beside) {
      await data.write(async (tx) => {
        await tx`insert into bench.line (text) values ('a line of text')`
        if (beside === 'job') tx.enqueue(job, { n: 1 })
        if (beside === 'event') tx.publish(Written, { n: 1 })
      })
    },
    async bulk(count) {
      await data.write((tx) => {
        for (let n = 0; n < count; n += 1) tx.enqueue(job, { n })
      })
    },
    async enqueueAt(at) {
      await data.write((tx) => void tx.enqueue(job, { n: 0, at: at() }))
    },
    async work(run) {
      const work: AppWork = { jobs: [], consumed: [], crons: [] }
      addWork(work, 'bench', [handle(job, run)], primitives)
      stop = startWork(work, primitives, { graceMs: 100 })
    },
    async close() {
      await stop()
      await primitives.close()
      await database.close()
    },
  }
}

function poolOf({ host, port, user, database }: ConnectionConfig): pg.Pool {
  return new pg.Pool({ host, port, user, database, max: poolMax })
}

async function inTransaction(pool: pg.Pool, body: (client: PoolClient) => Promise<unknown>): Promise<void> {
  const client = await pool.connect()
  try {
    await client.query('begin')
    await body(client)
    await client.query('commit')
  } finally {
    client.release()
  }
}

const insertLine = { name: 'line', text: "insert into bench.line (text) values ('a line of text')" }

async function openGraphile(connection: ConnectionConfig): Promise<QueueSide> {
  const { Logger, makeWorkerUtils, run } = await import('graphile-worker')
  const silent = new Logger(() => () => {}) // it would write a line for every job
  const pool = poolOf(connection)
  const utils = await makeWorkerUtils({ pgPool: pool })
  let stop = async () => {}
  const add = (client: PoolClient, input: object) =>
    client.query({
      name: 'add',
      text: "select graphile_worker.add_job('bench', $1::json)",
      values: [JSON.stringify(input)],
    })
  return {
    async write(beside) {
      await inTransaction(pool, async (client) => {
        await client.query(insertLine)
        if (beside) await add(client, { n: 1 })
      })
    },
    async bulk(count) {
      await utils.addJobs(Array.from({ length: count }, (_, n) => ({ identifier: 'bench', payload: { n } })))
    },
    async enqueueAt(at) {
      await inTransaction(pool, (client) => add(client, { n: 0, at: at() }))
    },
    async work(body) {
      const runner = await run({
        pgPool: pool,
        noHandleSignals: true,
        logger: silent,
        taskList: { bench: async (payload) => body(payload as { n: number }) },
        preset: {
          worker: {
            concurrentJobs: concurrency,
            localQueue: { size: 500 },
            completeJobBatchDelay: 0,
            failJobBatchDelay: 0,
          },
        },
      })
      stop = () => runner.stop()
    },
    async close() {
      await stop()
      await utils.release()
      await pool.end()
    },
  }
}

async function openBoss(connection: ConnectionConfig): Promise<QueueSide> {
  const { PgBoss } = await import('pg-boss')
  const pool = poolOf(connection)
  const { host, port, user, database } = connection
  const boss = new PgBoss({ host: host!, port: port!, user: user!, database: database!, max: poolMax, supervise: true })
  boss.on('error', () => {})
  await boss.start()
  await boss.createQueue('bench')
  const over = (client: PoolClient) => ({
    db: { executeSql: (text: string, values?: unknown[]) => client.query(text, values) },
  })
  return {
    async write(beside) {
      await inTransaction(pool, async (client) => {
        await client.query(insertLine)
        if (beside) await boss.send('bench', { n: 1 }, over(client))
      })
    },
    async bulk(count) {
      for (let n = 0; n < count; n += 5_000) {
        await boss.insert(
          'bench',
          Array.from({ length: Math.min(5_000, count - n) }, () => ({ data: { n } })),
        )
      }
    },
    async enqueueAt(at) {
      await boss.send('bench', { n: 0, at: at() })
    },
    async work(run) {
      // The shortest interval that it allows; a batch as large as the others take ahead.
      const options = { batchSize: 500, pollingIntervalSeconds: 0.5 }
      await boss.work('bench', options, async (jobs) => {
        await Promise.all(jobs.map(({ data }) => run(data as { n: number })))
      })
    },
    async close() {
      await boss.stop({ graceful: false })
      await pool.end()
    },
  }
}
