import assert from 'node:assert/strict'
import { type ChildProcess, fork } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { after, before, it } from 'node:test'
import { setTimeout as wait } from 'node:timers/promises'
import { connectOnce } from '../../../src/engines/postgres/client.ts'
import { type EmbeddedPostgres, startEmbedded } from '../../../src/engines/postgres/embedded.ts'
import { seededRandom } from '../../../src/kernel/random.ts'
import { migrate } from '../../../src/migrations/migrate.ts'
import { systemMigrations } from '../../../src/runtime/migrations.ts'
import { subscribe } from '../../../src/runtime/work.ts'
import { fail, OrderPlaced, openOrders, orderTables, orderWork, ship, slow } from '../../support/order-work.ts'
import { until } from '../../support/process.ts'

/** How often a process is killed; one in twenty is the database server. */
const kills = 200
const writers = 8
/** No more is written while so much waits: the backlog is bounded, however long the kills take on a busy machine. */
const backlogMax = 500
const workers = 2
const leaseMs = 1_500
const moments = ['claimed', 'before-run', 'after-run', 'before-settle', 'after-settle']

let dir: string
let server: EmbeddedPostgres
let orders: Awaited<ReturnType<typeof openOrders>>
const children = new Set<ChildProcess>()

before(async () => {
  dir = await mkdtemp(path.join(tmpdir(), 'rung-test-'))
  server = await startEmbedded({ root: dir, connectionsMax: 100 })
  await migrate({ connection: server.connection, migrations: systemMigrations })
  const client = await connectOnce(server.connection)
  await client.query(orderTables)
  await client.end()
  orders = await openOrders(server.connection)
  await subscribe(orderWork(orders), orders.primitives)
})
after(async () => {
  for (const child of children) child.kill('SIGKILL')
  await orders.close()
  await server.stop()
  await rm(dir, { recursive: true, force: true })
})

async function startWorker(at?: string): Promise<{ child: ChildProcess; gone: Promise<unknown> }> {
  const child = fork(
    path.join(import.meta.dirname, '../../support/order-worker.ts'),
    [JSON.stringify({ connection: server.connection, leaseMs, at })],
    { execArgv: ['--conditions=rung-source'] },
  )
  children.add(child)
  const gone = new Promise((resolve) => child.once('exit', resolve)).then(() => children.delete(child))
  await Promise.race([new Promise((resolve) => child.once('message', resolve)), gone])
  return { child, gone }
}

const count = async (kind: string, id: number) =>
  (await orders.data.pool.query('select from orders.effect where kind = $1 and order_id = $2', [kind, id])).rowCount

it(`after ${kills} kills nothing that was acknowledged is lost, and nothing has happened twice`, async (context) => {
  const random = seededRandom(20_261)
  const acknowledged: number[] = []
  const rolledBack: number[] = []
  const poisoned: (number | undefined)[] = []
  let next = 0
  let ended = false
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
          const poison = id % 50 === 0 ? tx.enqueue(fail, { id }) : undefined
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

  /** One place for a worker: whoever works there is killed again and again, by himself at some moment or from outside. */
  async function keepKilling(): Promise<void> {
    while (killed < kills) {
      const byItself = random() < 0.8
      const at = byItself
        ? `${moments[Math.floor(random() * moments.length)]}:${1 + Math.floor(random() * 20)}`
        : undefined
      const { child, gone } = await startWorker(at)
      if (!byItself) {
        await wait(random() * 200)
        child.kill('SIGKILL')
      }
      await gone
      killed += 1
      if (killed % 20 === 0 && killed < kills) {
        const pid = server.pid()!
        serverKills += 1
        process.kill(pid, 'SIGKILL')
        await until(() => server.pid() !== pid, 'the server is back')
      }
      if (killed % 50 === 0) context.diagnostic(`${killed} kills, ${acknowledged.length} orders`)
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
  context.diagnostic(
    `${killed} workers and ${serverKills} servers killed; ${acknowledged.length} orders acknowledged, 0 lost, 0 doubled`,
  )
})

it('a worker that was paused past its lease completes nothing when it wakes up', async () => {
  const id = 1_000_000_000
  const paused = await startWorker()
  await orders.data.write((tx) => void tx.enqueue(slow, { id }))
  const begun = (pid: number) => async () =>
    (await orders.data.pool.query('select from orders.signal where name = $1', [`begun ${pid}`])).rowCount! > 0
  await until(begun(paused.child.pid!), 'it has begun')
  paused.child.kill('SIGSTOP')
  const other = await startWorker()
  await until(begun(other.child.pid!), 'the other one has taken it over')
  await orders.data.pool.query("insert into orders.signal values ('go')")
  await until(async () => (await count('slow', id)) === 1, 'the other one is done')
  other.child.kill('SIGTERM')
  await other.gone
  paused.child.kill('SIGCONT')
  // It works again once it has taken a new job; by then the old run has had its turn.
  await orders.data.write((tx) => void tx.enqueue(ship, { id }))
  await until(async () => (await count('ship', id)) === 1, 'it is awake')
  paused.child.kill('SIGTERM')
  await paused.gone
  assert.equal(await count('slow', id), 1)
})
