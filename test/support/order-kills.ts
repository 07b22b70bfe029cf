import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { setTimeout as wait } from 'node:timers/promises'
import { connectOnce } from '../../src/engines/postgres/client.ts'
import { startEmbedded } from '../../src/engines/postgres/embedded.ts'
import { seededRandom } from '../../src/kernel/random.ts'
import { migrate } from '../../src/migrations/migrate.ts'
import { systemMigrations } from '../../src/runtime/migrations.ts'
import { subscribe } from '../../src/runtime/work.ts'
import { forkedWorkers } from './forked-workers.ts'
import { fail, OrderPlaced, openOrders, orderTables, orderWork, ship } from './order-work.ts'
import { until } from './process.ts'

const writers = 8
/** No more is written while so much waits: the backlog is bounded, however long the kills take on a busy machine. */
const backlogMax = 500
const workers = 2
const leaseMs = 1_500
/** The moments at which a worker kills itself; `undefined`: it is killed from outside. */
const moments = ['claimed', 'before-run', 'after-run', 'before-settle', 'after-settle', undefined] as const

/** A Postgres of its own, which may be killed, with the tables of the orders, and workers as processes. */
export async function openOrderFleet() {
  const dir = await mkdtemp(path.join(tmpdir(), 'rung-test-'))
  const server = await startEmbedded({ root: dir, connectionsMax: 100 })
  await migrate({ connection: server.connection, migrations: systemMigrations })
  const client = await connectOnce(server.connection)
  await client.query(orderTables)
  await client.end()
  const orders = await openOrders(server.connection)
  await subscribe(orderWork(orders), orders.primitives)
  const workers = forkedWorkers('order-worker.ts')

  /** `at`: the worker kills itself at this moment. */
  const startWorker = (at?: string) => workers.start({ connection: server.connection, leaseMs, at })

  async function close(): Promise<void> {
    workers.kill()
    await orders.close()
    await server.stop()
    await rm(dir, { recursive: true, force: true })
  }
  return { server, orders, startWorker, close }
}

export type OrderFleet = Awaited<ReturnType<typeof openOrderFleet>>

/**
 * Kills workers while orders are placed, at each moment of a job in turn, and with every tenth worker the database server.
 * @param kills how many workers are killed
 * @returns what happened, in one sentence
 * @throws AssertionError when something that was acknowledged is lost, or has happened twice
 */
export async function killWorkers({ server, orders, startWorker }: OrderFleet, kills: number): Promise<string> {
  const random = seededRandom(20_261)
  const acknowledged: number[] = []
  const rolledBack: number[] = []
  const poisoned: (number | undefined)[] = []
  let next = 0
  let ended = false
  let started = 0
  let killed = 0
  let serverKills = 0
  let backlog = 0

  async function watchBacklog(): Promise<void> {
    for (; !ended; await wait(50)) {
      const counts = await orders.primitives.stores.main.queue.count().catch(() => undefined) // the server may be away
      if (counts) backlog = counts.reduce((sum, one) => sum + one.waiting + one.delayed + one.running, 0)
    }
  }

  async function write(key: string): Promise<void> {
    while (!ended) {
      if (backlog > backlogMax) {
        await wait(20)
        continue
      }
      next += 1
      const id = next
      const fails = random() < 0.1
      try {
        const ref = await orders.data.write(async (tx) => {
          await tx`insert into orders.placed (id) values (${id})`
          tx.publish(OrderPlaced, { id }, { key })
          tx.enqueue(ship, { id })
          const poison = id % 20 === 0 ? tx.enqueue(fail, { id }) : undefined
          if (fails) throw new Error('rolled back')
          return poison
        })
        acknowledged.push(id)
        if (ref) poisoned.push(ref.id)
      } catch {
        // A connection that was lost during the commit leaves it open whether it happened; the table knows.
        if (fails) rolledBack.push(id)
      }
      await wait(20)
    }
  }

  /** Keeps one worker running, which is killed again and again. */
  async function keepKilling(): Promise<void> {
    while (started < kills) {
      const moment = moments[started % moments.length]
      started += 1
      const { child, gone } = await startWorker(moment && `${moment}:${1 + Math.floor(random() * 20)}`)
      if (moment === undefined) {
        await wait(random() * 200)
        child.kill('SIGKILL')
      }
      await gone
      killed += 1
      if (killed % 10 === 5) {
        const pid = server.pid()!
        serverKills += 1
        process.kill(pid, 'SIGKILL')
        await until(() => server.pid() !== pid, 'the server is back')
      }
    }
  }

  const writing = [watchBacklog(), ...Array.from({ length: writers }, (_, key) => write(`key ${key}`))]
  await Promise.all(Array.from({ length: workers }, keepKilling))
  ended = true
  await Promise.all(writing)

  const last = await startWorker()
  await until(async () => {
    const counts = await orders.primitives.stores.main.queue.count().catch(() => undefined)
    return counts?.every((one) => one.waiting + one.delayed + one.running === 0)
  }, 'everything has been worked off')
  last.child.kill('SIGTERM')
  await last.gone

  const { pool } = orders.data
  const { rows: doubled } = await pool.query(
    'select kind, order_id, count(*) from orders.effect group by 1, 2 having count(*) > 1',
  )
  assert.deepEqual(doubled, [], 'happened twice')
  const { rows: lost } = await pool.query(
    `select kind, id from orders.placed cross join unnest(array['ship', 'billing', 'stats']) kind
     where not exists (select from orders.effect where effect.kind = kind.kind and order_id = id)`,
  )
  assert.deepEqual(lost, [], 'committed, and has not happened')
  const { rows: invented } = await pool.query(
    'select order_id from orders.effect where not exists (select from orders.placed where id = order_id)',
  )
  assert.deepEqual(invented, [], 'happened, though its transaction was rolled back')
  const placed = new Set((await pool.query('select id from orders.placed')).rows.map(({ id }) => id))
  assert.deepEqual(
    acknowledged.filter((id) => !placed.has(id)),
    [],
    'acknowledged, and not there',
  )
  assert.deepEqual(
    rolledBack.filter((id) => placed.has(id)),
    [],
    'rolled back, and there',
  )
  // A key has one writer, which waits for its commits.
  const { rows: disordered } = await pool.query(
    `select * from (select kind, key, order_id, lag(order_id) over (partition by kind, key order by at) as before
       from orders.effect where key is not null) effect where before > order_id`,
  )
  assert.deepEqual(disordered, [], 'out of order')
  const dead = await orders.primitives.stores.main.queue.list({ state: 'dead', limit: 10_000 })
  assert.deepEqual(
    poisoned.filter((id) => !dead.some((one) => one.id === id)),
    [],
    'always fails, and is not among the dead',
  )
  assert.ok(dead.every(({ name }) => name === fail.name))
  return `${killed} workers and ${serverKills} servers killed; ${acknowledged.length} orders acknowledged, 0 lost, 0 doubled`
}
