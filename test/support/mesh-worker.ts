/** Sends, takes and handles events as a process of its own: says when it works, ends with its parent. */

import { openNats } from '../../src/engines/nats/client.ts'
import { jetstreamBroker } from '../../src/primitives/events/jetstream.ts'
import { startWork } from '../../src/runtime/work.ts'
import { meshStream, meshWork } from './mesh-kills.ts'
import { dieAt, openOrders } from './order-work.ts'

const { connection, url, at } = JSON.parse(process.argv[2]!)
dieAt(at)
const orders = await openOrders(connection, 'jetstream')
const broker = jetstreamBroker(await openNats({ url, name: 'mesh worker' }), meshStream)
const end = startWork(meshWork(orders), orders.primitives, { graceMs: 10_000, broker })
process.on('disconnect', () => process.exit(0))
process.on('SIGTERM', async () => {
  await end()
  await broker.close()
  await orders.close()
  process.exit(0)
})
process.send!('works')
