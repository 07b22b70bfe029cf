import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { Type } from 'typebox'
import { handle, on } from '../src/app/work.ts'
import { connectOnce } from '../src/engines/postgres/client.ts'
import { startEmbedded } from '../src/engines/postgres/embedded.ts'
import { formatBytes } from '../src/kernel/units.ts'
import { migrate } from '../src/migrations/migrate.ts'
import { defineEvent } from '../src/primitives/events/events.ts'
import { defineJob } from '../src/primitives/jobs/jobs.ts'
import { systemMigrations } from '../src/runtime/migrations.ts'
import { openPrimitives } from '../src/runtime/primitives.ts'
import { openDatabase, openSignals } from '../src/runtime/wire.ts'
import { type AppWork, addWork, startWork, subscribe } from '../src/runtime/work.ts'
import { rung1k } from '../src/topology/rungs/1k.ts'
import type { Bench } from './run.ts'
import { machineFacts, progress, table } from './support/report.ts'

const jobsTotal = 1_000_000
const eventsTotal = 50_000
const wave = 20_000

/** What a million finished jobs leave behind, while vacuum runs as it does for everybody. */
const bench: Bench = {
  claim: 'a million finished jobs leave tables of a bounded size',
  async run({ json }) {
    const dir = await mkdtemp(path.join(tmpdir(), 'rung-bench-'))
    const server = await startEmbedded({ root: dir, connectionsMax: 100 })
    try {
      const { connection } = server
      await migrate({ connection, migrations: systemMigrations })
      const database = openDatabase({ ...rung1k.data, writeConnectionsMax: 30 }, connection)
      const primitives = openPrimitives({
        databases: [{ database }],
        signals: await openSignals(database, async () => connection),
      })
      const data = primitives.data.forModule('bench')
      const job = defineJob('bench.job', Type.Object({ n: Type.Integer() }), { concurrency: 24 })
      const Happened = defineEvent('bench.happened', Type.Object({ n: Type.Integer() }))
      const work: AppWork = { jobs: [], consumed: [], crons: [] }
      let done = 0
      let wake = () => {}
      const count = () => {
        done += 1
        wake()
      }
      const until = (total: number) =>
        new Promise<void>((resolve) => {
          wake = () => {
            if (done >= total) resolve()
          }
          wake()
        })
      addWork(work, 'bench', [handle(job, count), on(Happened, count)], primitives)
      await subscribe(work, primitives)
      const stop = startWork(work, primitives, { graceMs: 1_000 })
      const client = await connectOnce(connection)
      const sizeOf = async () => {
        const { rows } = await client.query(
          `select pg_table_size('rung.job')::float8 as heap, pg_indexes_size('rung.job')::float8 as indexes`,
        )
        return rows[0] as { heap: number; indexes: number }
      }
      const sizes: { jobs: number; heap: number; indexes: number }[] = []
      for (let n = 0; n < jobsTotal; ) {
        await data.write((tx) => {
          for (const end = n + wave; n < end; n += 1) tx.enqueue(job, { n })
        })
        await until(n)
        if (n % 100_000 > 0) continue
        sizes.push({ jobs: n, ...(await sizeOf()) })
        const { heap, indexes } = sizes.at(-1)!
        progress(`  ${n.toLocaleString('en')} jobs: ${formatBytes(heap)} and ${formatBytes(indexes)} of indexes`)
      }
      let published = 0
      await Promise.all(
        Array.from({ length: 16 }, async () => {
          while (published < eventsTotal) {
            published += 1
            const n = published
            await data.write((tx) => tx.publish(Happened, { n }, { key: n % 100 }))
          }
        }),
      )
      await until(jobsTotal + eventsTotal)
      const afterEvents = await sizeOf()
      const { rows } = await client.query('show server_version')
      const version = String(rows[0].server_version)
      await client.end()
      await stop()
      await primitives.close()
      await database.close()
      if (!json) {
        const rows = sizes.map(({ jobs, heap, indexes }) => [
          jobs.toLocaleString('en'),
          formatBytes(heap),
          formatBytes(indexes),
        ])
        const last = [
          `and ${eventsTotal.toLocaleString('en')} events`,
          formatBytes(afterEvents.heap),
          formatBytes(afterEvents.indexes),
        ]
        process.stdout.write(`\n${table([['finished jobs', 'table', 'indexes'], ...rows, last])}\n`)
      }
      return { claim: bench.claim, facts: machineFacts(version), sizes, afterEvents }
    } finally {
      await server.stop()
      await rm(dir, { recursive: true, force: true })
    }
  },
}
export default bench
