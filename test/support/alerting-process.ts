import { everyAlone } from '../../src/kernel/clock.ts'
import { createWatch } from '../../src/observe/alerts/keep.ts'
import { rulesOf } from '../../src/observe/alerts/owners.ts'
import { postgresDatabase } from '../../src/primitives/data/postgres.ts'
import { Worker } from '../../src/primitives/jobs/worker.ts'
import { alertLine } from '../../src/runtime/alerts.ts'
import { openAlertLease, openQueues } from '../../src/runtime/wire.ts'
import { testLimits } from './data.ts'

/** A process that evaluates one minute and tells of it, to be killed meanwhile: `database-url webhook minute`. */
const [url, webhook, minute] = process.argv.slice(2)
const database = postgresDatabase({
  ...{ name: 'main', connection: { url: url! }, idleTimeoutMs: 60_000, limits: testLimits },
  connectionsMax: { read: 2, write: 2 },
})
const { queue } = openQueues(database)
const told = { webhook, mail: [] }
const name = `process ${process.pid}`
await createWatch({
  ...{ node: name, app: 'market', rules: rulesOf({ name: 'market', modules: [], alerts: {} }), database, queue, told },
  lease: openAlertLease(database),
  clock: { now: () => Number(minute) + 15_000, ticks: () => performance.now() },
  looked: () => {},
  trouble: (error) => error !== undefined && process.stderr.write(`${error}\n`),
}).look()
// Jobs of processes that have died are taken back, as the upkeep of an app does.
everyAlone(200, async () => {
  await queue.reap(0)
})
const lines = [alertLine(told, { send: () => Promise.reject(new Error('no mail')) })]
new Worker({ queue, lines, name, database }).start()
