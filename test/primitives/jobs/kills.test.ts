import assert from 'node:assert/strict'
import { after, before, it } from 'node:test'
import { killWorkers, type OrderFleet, openOrderFleet } from '../../support/order-kills.ts'
import { ship, slow } from '../../support/order-work.ts'
import { until } from '../../support/process.ts'

/** Visits each moment of a job; `bench/kills.ts` kills ten times as often. */
const kills = 20

let fleet: OrderFleet
before(async () => {
  fleet = await openOrderFleet()
})
after(() => fleet.close())

const count = async (kind: string, id: number) =>
  (await fleet.orders.data.pool.query('select from orders.effect where kind = $1 and order_id = $2', [kind, id]))
    .rowCount

it(`after ${kills} kills nothing that was acknowledged is lost, and nothing has happened twice`, async (context) => {
  context.diagnostic(await killWorkers(fleet, kills))
})

it('a worker that was paused past its lease completes nothing when it wakes up', async () => {
  const id = 1_000_000_000
  const paused = await fleet.startWorker()
  await fleet.orders.data.write((tx) => void tx.enqueue(slow, { id }))
  const begun = (pid: number) => async () =>
    (await fleet.orders.data.pool.query('select from orders.signal where name = $1', [`begun ${pid}`])).rowCount! > 0
  await until(begun(paused.child.pid!), 'it has begun')
  paused.child.kill('SIGSTOP')
  const other = await fleet.startWorker()
  await until(begun(other.child.pid!), 'the other one has taken it over')
  await fleet.orders.data.pool.query("insert into orders.signal values ('go')")
  await until(async () => (await count('slow', id)) === 1, 'the other one is done')
  other.child.kill('SIGTERM')
  await other.gone
  paused.child.kill('SIGCONT')
  // It works again once it has taken a new job; by then the old run has had its turn.
  await fleet.orders.data.write((tx) => void tx.enqueue(ship, { id }))
  await until(async () => (await count('ship', id)) === 1, 'it is awake')
  paused.child.kill('SIGTERM')
  await paused.gone
  assert.equal(await count('slow', id), 1)
})
