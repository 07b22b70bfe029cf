/** Handles events as a process of its own, and tells its parent of each whose handler has committed. */

import { openNats } from '../../src/engines/nats/client.ts'
import { jetstreamBroker } from '../../src/primitives/events/jetstream.ts'
import { runDone } from '../../src/primitives/jobs/channels.ts'
import { startWork } from '../../src/runtime/work.ts'
import { meshStream } from '../../test/support/mesh-kills.ts'
import { openOrders } from '../../test/support/order-work.ts'
import { eventsWork } from './events-work.ts'

const { connection, url, told } = JSON.parse(process.argv[2]!)
const orders = await openOrders(connection, url ? 'jetstream' : 'table')
const broker = url && jetstreamBroker(await openNats({ url, name: 'bench' }), meshStream)
const end = startWork(eventsWork(orders), orders.primitives, { graceMs: 10_000, broker })
if (told) {
  runDone.subscribe((message) => {
    const { item, outcome } = message as { item: { payload: { id: number } }; outcome: string }
    if (outcome === 'done') process.send!(item.payload.id)
  })
}
process.on('disconnect', () => process.exit(0))
process.on('message', async () => {
  await end()
  await broker?.close()
  await orders.close()
  process.exit(0)
})
process.send!('works')
