import { subscribe as listenTo, unsubscribe } from 'node:diagnostics_channel'
import { openNats } from '../../src/engines/nats/client.ts'
import type { Database } from '../../src/primitives/data/contract.ts'
import { createData } from '../../src/primitives/data/data.ts'
import type { Riding } from '../../src/primitives/data/rides.ts'
import type { SqlTag } from '../../src/primitives/data/sql.ts'
import type { EventTrouble } from '../../src/primitives/events/channels.ts'
import { type EventLog, type Outbox, queueOfGroup } from '../../src/primitives/events/contract.ts'
import { type JetstreamOptions, jetstreamBroker } from '../../src/primitives/events/jetstream.ts'
import { tableEventLog } from '../../src/primitives/events/log.ts'
import { type Mesh, startMesh } from '../../src/primitives/events/mesh.ts'
import { tableOutbox } from '../../src/primitives/events/table.ts'
import { tableQueue } from '../../src/primitives/jobs/table.ts'
import type { Lease } from '../../src/primitives/upkeep/contract.ts'
import { openEventsLease } from '../../src/runtime/wire.ts'
import { openSystemTables } from './data.ts'
import type { TestNats } from './nats.ts'
import type { TestPostgres } from './postgres.ts'
import { until } from './process.ts'

export type MeshUnderTest = Awaited<ReturnType<typeof openMesh>>

type Tx = SqlTag & { publish(...payloads: unknown[]): void }

/** A database whose events go over the broker, without a worker: deliveries stay in their queues. */
export async function openMesh(
  postgres: TestPostgres | { database: Database },
  nats: TestNats | undefined,
  { lease, ...options }: Partial<JetstreamOptions> & { lease?: Lease } = {},
) {
  const { database } = 'database' in postgres ? postgres : await openSystemTables(postgres)
  const log = tableEventLog(database, tableOutbox(database))
  const queue = tableQueue(database)
  /** What was read from the log for groups, instead of coming from the broker. */
  const read: number[] = []
  const counting: EventLog = {
    ...log,
    async read(after, max) {
      const chain = await log.read(after, max)
      read.push(...chain.events.map(({ payload }) => Number(payload)))
      return chain
    },
  }
  const troubles: EventTrouble['event'][] = []
  const hear = (message: unknown) => {
    const trouble = message as EventTrouble
    if (trouble.database === database) troubles.push(trouble.event)
  }
  listenTo('rung:event-trouble', hear)
  let mesh: Mesh | undefined
  let broker: ReturnType<typeof jetstreamBroker> | undefined
  const extend = (riding: Riding) => ({
    publish: (...payloads: unknown[]) =>
      riding.ride(() => [
        log.publish(
          payloads.map((one) => ({ name: 'happened', payload: JSON.stringify(one), key: 'k', context: {} })),
          () => mesh?.wake(),
        ),
      ]),
  })
  const data = createData<Tx>(database, { extend }).forModule('m')

  async function start(): Promise<void> {
    const client = await openNats({ url: nats!.url, name: 'test', timeoutMs: 1_000 })
    // The name of the app: each test has a stream of its own.
    const app = `test-${Math.random().toString(36).slice(2)}`
    const bounds = { bytesMax: 64 * 1024 ** 2, ageMsMax: 600_000, replicas: 1 }
    broker = jetstreamBroker(client, { app, ...bounds, ...options })
    mesh = startMesh({
      ...{ database, log, logs: new Map([[database.name, counting]]), broker },
      ...{ lease: lease ?? openEventsLease(database), holder: 'test', woken() {} },
    })
  }
  const subscribe = (group: string, from: 'now' | 'start' = 'now') =>
    log.subscribe([{ event: 'happened', group, attemptsMax: 3, fromStart: from === 'start' }])
  const publish = (...payloads: unknown[]) => data.write((tx) => tx.publish(...payloads))
  async function delivered(group: string): Promise<unknown[]> {
    const items = await queue.list({ queues: [queueOfGroup(group)], limit: 10_000 })
    return items.map(({ payload }) => payload).reverse()
  }
  /** Until the group has so many deliveries; returns them. */
  async function deliveries(group: string, count: number): Promise<unknown[]> {
    await until(async () => (await delivered(group)).length >= count, `${group} has ${count} deliveries`)
    return delivered(group)
  }
  async function stop(): Promise<void> {
    await mesh?.stop()
    await broker?.close()
    ;[mesh, broker] = [undefined, undefined]
  }
  return {
    ...{
      database,
      log: log as EventLog & Outbox,
      queue,
      read,
      troubles,
      start,
      subscribe,
      publish,
      delivered,
      deliveries,
      stop,
    },
    async close() {
      await stop()
      unsubscribe('rung:event-trouble', hear)
      await (database as Database).close()
    },
  }
}
