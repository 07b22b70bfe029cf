/** One worker process of one queue. Tells its parent when it is ready, how much it has done, and when a job began. */

import { machineTicks } from '../../src/kernel/clock.ts'
import { openQueue } from './queues.ts'

const { name, connection } = JSON.parse(process.argv[2]!)
const side = await openQueue(name, connection)
let done = 0
let told = 0
await side.work(({ at, n }) => {
  if (at !== undefined) return void process.send!({ began: machineTicks(), at })
  if (n === -1) {
    process.send!({ stuck: machineTicks() })
    return new Promise<void>(() => {})
  }
  done += 1
})
// Counting costs the same for all, and little.
setInterval(() => {
  if (done === told) return
  told = done
  process.send!({ done, now: machineTicks() })
}, 5).unref()
process.on('disconnect', () => process.exit(0))
process.send!({ ready: true })
