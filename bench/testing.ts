import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import conduit from '../examples/conduit/app.ts'
import { connectOnce } from '../src/engines/postgres/client.ts'
import { startEmbedded } from '../src/engines/postgres/embedded.ts'
import { migrationsOf } from '../src/runtime/migrations.ts'
import { createTestDatabase, startTestServer } from '../src/testing/server.ts'
import { testApp } from '../src/testing.ts'
import type { Bench } from './run.ts'
import { machineFacts, progress, rounded, spread, table } from './support/report.ts'

/** How many files of a run want a database at the same moment. */
const together = 4
const target = { copyMs: 150 }

const bench: Bench = {
  claim: 'a test file gets a database of its own, migrated, within 150 ms after the first',
  async run({ json, rounds = 15 }) {
    const migrations = await migrationsOf(conduit)
    const server = await startTestServer()
    const dir = await mkdtemp(path.join(tmpdir(), 'rung-bench-'))
    const durable = await startEmbedded({ root: dir, connectionsMax: 100 })
    const rows: [string, number[]][] = []
    async function timed(name: string, times: number, fn: () => Promise<unknown>): Promise<void> {
      const all: number[] = []
      for (let n = 0; n < times; n += 1) {
        const began = performance.now()
        await fn()
        all.push(performance.now() - began)
      }
      rows.push([name, all])
      if (!json) progress(name)
    }
    try {
      const made = async () => void (await (await createTestDatabase(server.url, migrations)).drop())
      await timed('the first: the template, and a copy', 1, made)
      await timed('a copy, and its end', rounds, made)
      let whole = 0
      await timed('a copy', rounds, async () => {
        await createTestDatabase(server.url, migrations)
        whole += 1
      })
      await timed(`${together} copies at once`, rounds, () =>
        Promise.all(Array.from({ length: together }, () => createTestDatabase(server.url, migrations))),
      )
      for (const [kind, url] of [
        ['test server', server.url],
        ['durable server', await withTemplate(durable, migrations)],
      ] as const) {
        const client = await connectOnce({ url })
        const { rows: found } = await client.query(
          "select datname from pg_database where datname like 'rung_template_%'",
        )
        for (const strategy of ['wal_log', 'file_copy']) {
          await timed(`create database, ${strategy}, ${kind}`, rounds, () => {
            whole += 1
            return client.query(`create database bench_${whole} template ${found[0].datname} strategy ${strategy}`)
          })
        }
        await client.end()
      }
      process.env.RUNG_TEST_SERVER = server.url
      await timed('a whole testApp, started and stopped', rounds, async () => (await testApp(conduit)).stop())
    } finally {
      await server.stop()
      await durable.stop()
      await rm(dir, { recursive: true, force: true })
    }
    const results = Object.fromEntries(rows.map(([name, all]) => [name, rounded(spread(all))]))
    if (!json) {
      const cells = rows.map(([name, all]) => {
        const { median, least, most } = spread(all)
        return [name, median.toFixed(0), least.toFixed(0), most.toFixed(0)]
      })
      console.log(table([['Conduit’s tables, ms', 'median', 'least', 'most'], ...cells]))
      const median = spread(rows.find(([name]) => name === 'a copy')![1]).median
      console.log(
        `\n${median <= target.copyMs ? 'met' : 'not met'}: a copy takes ${median.toFixed(0)} ms, the target is ${target.copyMs} ms`,
      )
    }
    return { facts: machineFacts('18'), target, rounds, ms: results }
  },
}
export default bench

async function withTemplate(
  { connection, adminConnection }: Awaited<ReturnType<typeof startEmbedded>>,
  migrations: Parameters<typeof createTestDatabase>[1],
): Promise<string> {
  const admin = await connectOnce(adminConnection)
  await admin.query(`alter role "${connection.user}" createdb`).finally(() => admin.end())
  const url = `postgres://${connection.user}@/postgres?host=${encodeURIComponent(connection.host!)}`
  await createTestDatabase(url, migrations)
  return url
}
