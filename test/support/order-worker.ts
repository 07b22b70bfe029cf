/** A worker as a process of its own: says when it works, ends with its parent. */

import { groupLines } from '../../src/primitives/events/events.ts'
import { jobLines } from '../../src/primitives/jobs/work.ts'
import { Worker } from '../../src/primitives/jobs/worker.ts'
import { dieAt, openOrders, orderWork } from './order-work.ts'

const { connection, leaseMs, at } = JSON.parse(process.argv[2]!)
dieAt(at)
const orders = await openOrders(connection)
const work = orderWork(orders)
const worker = new Worker({
  queue: orders.primitives.queue,
  lines: [...jobLines(work.jobs), ...groupLines(work.consumed)],
  name: `worker ${process.pid}`,
  database: orders.primitives.data.database,
  leaseMs,
})
worker.start()
orders.primitives.signals.listen('jobs', (queues) => worker.wake(queues))
process.on('disconnect', () => process.exit(0))
process.on('SIGTERM', async () => {
  await worker.stop(10_000)
  await orders.close()
  process.exit(0)
})
process.send!('works')
