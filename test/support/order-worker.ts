/** A worker as a process of its own: says when it works, ends with its parent. */

import { groupLines } from '../../src/primitives/events/events.ts'
import { jobLines } from '../../src/primitives/jobs/work.ts'
import { Worker } from '../../src/primitives/jobs/worker.ts'
import { startUpkeep } from '../../src/primitives/upkeep/upkeep.ts'
import { upkeepOf } from '../../src/runtime/upkeep.ts'
import { openUpkeepLease } from '../../src/runtime/wire.ts'
import { dieAt, openOrders, orderWork } from './order-work.ts'

const { connection, leaseMs, at } = JSON.parse(process.argv[2]!)
dieAt(at)
const orders = await openOrders(connection)
const work = orderWork(orders)
const { main } = orders.primitives.stores
const name = `worker ${process.pid}`
const worker = new Worker({
  queue: main.queue,
  lines: [...jobLines(work.jobs), ...groupLines(work.consumed)],
  name,
  database: main.database,
  leaseMs,
})
worker.start()
const endUpkeep = startUpkeep({
  lease: openUpkeepLease(main.database),
  holder: name,
  tasks: upkeepOf(main, () => worker.wake()),
  failed() {},
})
orders.primitives.signals.listen('jobs', (queues) => worker.wake(queues))
process.on('disconnect', () => process.exit(0))
process.on('SIGTERM', async () => {
  await endUpkeep()
  await worker.stop(10_000)
  await orders.close()
  process.exit(0)
})
process.send!('works')
