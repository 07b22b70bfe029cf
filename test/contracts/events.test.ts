import { after, before, describe } from 'node:test'
import { openNats } from '../../src/engines/nats/client.ts'
import { logQueue, queueOfGroup } from '../../src/primitives/events/contract.ts'
import { jetstreamBroker } from '../../src/primitives/events/jetstream.ts'
import { tableEventLog } from '../../src/primitives/events/log.ts'
import { startMesh } from '../../src/primitives/events/mesh.ts'
import { tableOutbox } from '../../src/primitives/events/table.ts'
import { tableQueue } from '../../src/primitives/jobs/table.ts'
import { openEventsLease } from '../../src/runtime/wire.ts'
import { openSystemTables } from '../support/data.ts'
import { noNats, type TestNats, testNats } from '../support/nats.ts'
import { type TestPostgres, testPostgres } from '../support/postgres.ts'
import { until } from '../support/process.ts'
import { eventLogContract } from './event-log.ts'
import { eventsContract } from './events.ts'

let postgres: TestPostgres
before(async () => {
  postgres = await testPostgres()
})
after(() => postgres.stop())

eventsContract('table', async () => {
  const { database } = await openSystemTables(postgres)
  return {
    outbox: tableOutbox(database),
    queue: tableQueue(database),
    database,
    told: (groups) => groups.map(queueOfGroup),
    settle: async () => {},
    close: () => database.close(),
  }
})

describe('over a broker', { skip: noNats }, () => {
  let nats: TestNats
  before(async () => {
    nats = await testNats()
  })
  after(() => nats.stop())

  eventsContract('jetstream', async () => {
    const { database } = await openSystemTables(postgres)
    const log = tableEventLog(database, tableOutbox(database))
    const client = await openNats({ url: nats.url, name: 'test' })
    const broker = jetstreamBroker(client, { app: 'test', bytesMax: 64 * 1024 ** 2, ageMsMax: 600_000, replicas: 1 })
    const mesh = startMesh({
      ...{ database, log, logs: new Map([[database.name, log]]), broker },
      ...{ lease: openEventsLease(database), holder: 'test', woken() {} },
    })
    return {
      outbox: log,
      queue: tableQueue(database),
      database,
      told: () => [logQueue],
      async settle() {
        mesh.wake()
        await until(async () => {
          const [{ last, unnumbered }, marks] = await Promise.all([log.state(), log.marks()])
          return unnumbered === 0 && marks.every(({ n }) => n === last)
        }, 'all subscriptions have everything')
      },
      async close() {
        await mesh.stop()
        await broker.close()
        await database.close()
      },
    }
  })
})

eventLogContract('table', async () => {
  const { database, connection } = await openSystemTables(postgres)
  return {
    log: tableEventLog(database, tableOutbox(database)),
    queue: tableQueue(database),
    database,
    connection,
    close: () => database.close(),
  }
})
