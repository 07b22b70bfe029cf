import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { setTimeout as wait } from 'node:timers/promises'
import type { JetStreamManager } from '@nats-io/jetstream'
import { on } from '../../src/app/work.ts'
import { connectOnce } from '../../src/engines/postgres/client.ts'
import { startEmbedded } from '../../src/engines/postgres/embedded.ts'
import { seededRandom } from '../../src/kernel/random.ts'
import { migrate } from '../../src/migrations/migrate.ts'
import { groupLags } from '../../src/primitives/events/groups.ts'
import { systemMigrations } from '../../src/runtime/migrations.ts'
import { type AppWork, addWork, subscribe } from '../../src/runtime/work.ts'
import { type ForkedWorker, forkedWorkers } from './forked-workers.ts'
import { testNats } from './nats.ts'
import { OrderPlaced, openOrders, orderTables } from './order-work.ts'
import { until } from './process.ts'

export const meshStream = { app: 'orders', bytesMax: 256 * 1024 ** 2, ageMsMax: 600_000, replicas: 1 }

const groups = ['billing', 'stats'] as const
const keys = 40
const writers = 8
/** Of one transaction. */
const eventsOfCommit = 5
/** No more is published while so many deliveries wait, so that a kill meets all stages and not only the last one. */
const backlogMax = 2_000
const workers = 2

/** What dies: a worker by itself at one of its moments, or the worker, the broker with or without what it has stored, the database. */
const deaths = [
  ...(['numbered', 'stored', 'sent', 'received', 'taken', 'acknowledged'] as const).map((moment) => ({ moment })),
  ...(['worker', 'broker', 'database', 'broker and its store', 'stream'] as const).map((what) => ({ what })),
]

/** Each group writes a row for each event, without any constraint, so that a doubled one shows. */
export function meshWork({ primitives }: Pick<Awaited<ReturnType<typeof openOrders>>, 'primitives'>): AppWork {
  const work: AppWork = { jobs: [], consumed: [], crons: [] }
  const options = { attempts: 1_000, backoff: { base: 5, max: 50 }, concurrency: 20 }
  const consumers = groups.map((group) =>
    on(
      OrderPlaced,
      ({ payload, key }, tx) =>
        tx`insert into orders.effect (kind, order_id, key) values (${group}, ${payload.id}, ${key})`,
      { group, ...options },
    ),
  )
  addWork(work, 'orders', consumers, primitives)
  return work
}

/** A Postgres and a NATS that may be killed, and workers as processes. */
export async function openMeshFleet() {
  const dir = await mkdtemp(path.join(tmpdir(), 'rung-test-'))
  const server = await startEmbedded({ root: dir, connectionsMax: 100 })
  await migrate({ connection: server.connection, migrations: systemMigrations })
  const client = await connectOnce(server.connection)
  await client.query(orderTables)
  await client.end()
  const nats = await testNats()
  const orders = await openOrders(server.connection, 'jetstream')
  await subscribe(meshWork(orders), orders.primitives)
  const workers = forkedWorkers('mesh-worker.ts')

  /** `at`: the worker kills itself at this moment. */
  const startWorker = (at?: string) => workers.start({ connection: server.connection, url: nats.url, at })

  async function close(): Promise<void> {
    workers.kill()
    await orders.close()
    await nats.stop()
    await server.stop()
    await rm(dir, { recursive: true, force: true })
  }
  return { server, nats, orders, startWorker, close }
}

export type MeshFleet = Awaited<ReturnType<typeof openMeshFleet>>

/**
 * Publishes events while workers, the broker and the database are killed in turn.
 * @param kills how many of them, spread over the events
 * @returns what happened, in one sentence
 * @throws AssertionError when an acknowledged event is lost, has happened twice, or out of order
 */
export async function killMesh(fleet: MeshFleet, kills: number, events: number): Promise<string> {
  const { orders } = fleet
  const { main } = orders.primitives.stores
  const random = seededRandom(20_263)
  const acknowledged: number[] = []
  let next = 0
  let ended = false
  let waiting = 0

  /** Published and not handled yet, wherever it is. */
  async function waitingNow(): Promise<number | undefined> {
    try {
      // The lags first: what they do not count any more is in the queues by then.
      const lags = await groupLags([{ name: main.database.name, log: main.log }])
      const counts = await main.queue.count()
      const behind = lags.reduce((sum, lag) => sum + lag.behind, 0)
      return counts.reduce((sum, one) => sum + one.waiting + one.delayed + one.running, 0) + behind
    } catch {
      return undefined // the server may be away
    }
  }
  async function watch(): Promise<void> {
    for (; !ended; await wait(50)) waiting = (await waitingNow()) ?? waiting
  }

  async function write(writer: number): Promise<void> {
    for (let turn = 0; next < events; turn += 1) {
      if (waiting > backlogMax) {
        await wait(20)
        continue
      }
      // Each key has one writer, which waits for its commits: the order of a key is that of its ids.
      const key = `key ${writer + writers * (turn % (keys / writers))}`
      const ids = Array.from({ length: eventsOfCommit }, (_, at) => next + at + 1)
      next += eventsOfCommit
      try {
        await orders.data.write(async (tx) => {
          for (const id of ids) {
            await tx`insert into orders.placed (id) values (${id})`
            tx.publish(OrderPlaced, { id }, { key })
          }
        })
        acknowledged.push(...ids)
      } catch {
        // A connection that was lost during the commit leaves it open whether it happened; the table knows.
        await wait(50)
      }
    }
  }

  const killed = new Map<string, number>()
  async function keepKilling(): Promise<void> {
    const running = await Promise.all(Array.from({ length: workers }, () => fleet.startWorker()))
    for (let count = 0; count < kills; count += 1) {
      await until(() => next >= ((count + 1) * events) / (kills + 1), 'it is time for the next kill')
      const death = deaths[count % deaths.length]!
      await kill(death, running)
      const name = 'moment' in death ? `worker at "${death.moment}"` : death.what
      killed.set(name, (killed.get(name) ?? 0) + 1)
    }
    await until(() => next >= events, 'everything is published')
    await until(async () => {
      waiting = (await waitingNow()) ?? waiting
      return waiting === 0
    }, 'everything has been handled')
    for (const { child } of running) child.kill('SIGTERM')
    await Promise.all(running.map(({ gone }) => gone))
  }

  async function kill(death: (typeof deaths)[number], running: ForkedWorker[]): Promise<void> {
    const { nats, server } = fleet
    if ('moment' in death) {
      // All others end first, and leave their lease: it is the one that sends and takes, and comes to this moment.
      const others = running.splice(0)
      for (const { child } of others) child.kill('SIGTERM')
      await Promise.all(others.map(({ gone }) => gone))
      await (await fleet.startWorker(`${death.moment}:${1 + Math.floor(random() * 5)}`)).gone
      running.push(...(await Promise.all(Array.from({ length: workers }, () => fleet.startWorker()))))
    } else if (death.what === 'worker') {
      const [one] = running.splice(0, 1)
      one!.child.kill('SIGKILL')
      await one!.gone
      running.push(await fleet.startWorker())
    } else if (death.what === 'database') {
      const pid = server.pid()!
      process.kill(pid, 'SIGKILL')
      await until(() => server.pid() !== pid, 'the server is back')
    } else if (death.what === 'stream') {
      await deleteStream(nats.url)
    } else {
      await nats.kill()
      if (death.what === 'broker and its store') await nats.wipe()
      await nats.start()
    }
  }

  const watching = watch()
  await Promise.all([keepKilling(), ...Array.from({ length: writers }, (_, writer) => write(writer))])
  ended = true
  await watching

  const { pool } = orders.data
  const rows = async (text: string) => (await pool.query(text)).rows
  const kinds = groups.map((group) => `('${group}')`).join()
  assert.deepEqual(
    await rows('select kind, order_id, count(*) from orders.effect group by 1, 2 having count(*) > 1 limit 10'),
    [],
    'happened twice',
  )
  assert.deepEqual(
    await rows(`select kind, id from orders.placed cross join (values ${kinds}) kinds (kind)
      where not exists (select from orders.effect where effect.kind = kinds.kind and order_id = id) limit 10`),
    [],
    'committed, and has not happened',
  )
  assert.deepEqual(
    await rows(
      'select order_id from orders.effect where not exists (select from orders.placed where id = order_id) limit 10',
    ),
    [],
    'happened, though its transaction was rolled back',
  )
  assert.deepEqual(
    await rows(`select * from (select kind, key, order_id, lag(order_id) over (partition by kind, key order by at) as before
      from orders.effect) effect where before > order_id limit 10`),
    [],
    'out of order',
  )
  const placed = new Set((await rows('select id from orders.placed')).map(({ id }) => id))
  assert.deepEqual(
    acknowledged.filter((id) => !placed.has(id)),
    [],
    'acknowledged, and not there',
  )
  const deathsTold = [...killed].map(([name, count]) => `${count} × ${name}`).join(', ')
  return `${placed.size} events for ${groups.length} groups, ${kills} kills (${deathsTold}): 0 lost, 0 doubled, the order of ${keys} keys kept`
}

/** As an operator might, with the broker's own tools. */
export function deleteStream(url: string): Promise<void> {
  return manageStreams(url, async (manager, name) => void (await manager.streams.delete(name)))
}

/** What was taken and acknowledged comes again. */
export function forgetConsumers(url: string): Promise<void> {
  return manageStreams(url, async (manager, name) => {
    for await (const consumer of manager.consumers.list(name)) await manager.consumers.delete(name, consumer.name)
  })
}

async function manageStreams(
  url: string,
  change: (manager: JetStreamManager, name: string) => Promise<void>,
): Promise<void> {
  const { connect } = await import('@nats-io/transport-node')
  const { jetstreamManager } = await import('@nats-io/jetstream')
  const { username, password, host } = new URL(url)
  const connection = await connect({ servers: host, user: username, pass: decodeURIComponent(password) })
  const manager = await jetstreamManager(connection)
  for await (const { config } of manager.streams.list()) await change(manager, config.name)
  await connection.close()
}
