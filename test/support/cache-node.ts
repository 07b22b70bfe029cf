/** A node of the cache as a process of its own: takes orders from its parent, ends with it. */
import { formatPlace, type Place, parsePlace } from '../../src/kernel/position.ts'
import { runInScope, Scope } from '../../src/kernel/scope.ts'
import { tableLog } from '../../src/primitives/cache/table.ts'
import { openDatabase } from '../../src/runtime/wire.ts'
import { rung1k } from '../../src/topology/rungs/1k.ts'
import { gate, openRedisNode, thingNamed } from './cache.ts'

export type Order = { n: number; position: [string, string][] } & (
  | { do: 'get'; thing: string; hold?: string }
  | { do: 'get-many'; thing: string; count: number }
  | { do: 'write'; thing: string }
  | { do: 'let-go'; hold: string }
)
export type Report = { n: number; position: [string, string][]; value?: unknown; error?: string } | { held: string }

const { connection, ...parts } = JSON.parse(process.argv[2]!)
const database = openDatabase(rung1k.data, connection)
const node = await openRedisNode({ database, log: tableLog(database), ...parts })
const gates = new Map<string, ReturnType<typeof gate>>()
let loads = 0
const report = (what: Report) => process.send!(what)

async function follow(order: Order): Promise<unknown> {
  switch (order.do) {
    case 'get': {
      const thing = thingNamed(order.thing)
      return thing.get(node, async (from) => {
        loads += 1
        const value = await thing.load(from)
        if (order.hold !== undefined) {
          const held = gate()
          gates.set(order.hold, held)
          report({ held: order.hold })
          await held.opened
        }
        return value
      })
    }
    case 'get-many': {
      const thing = thingNamed(order.thing)
      const before = loads
      const read = async (from: typeof node) => {
        loads += 1
        return thing.load(from)
      }
      const values = await Promise.all(Array.from({ length: order.count }, () => thing.get(node, read)))
      return { values: [...new Set(values)], loads: loads - before }
    }
    case 'write':
      return thingNamed(order.thing).write(node)
    case 'let-go':
      gates.get(order.hold)!.open()
  }
}

process.on('disconnect', () => process.exit(0))
process.on('message', async (order: Order) => {
  const scope = new Scope('request', 'test', 'test')
  scope.position = new Map(order.position.map(([name, place]): [string, Place] => [name, parsePlace(place)!]))
  const outcome = await runInScope(scope, () => follow(order)).then(
    (value) => ({ value }),
    (error) => ({ error: String(error) }),
  )
  const position = Array.from(scope.position, ([name, place]): [string, string] => [name, formatPlace(place)])
  report({ n: order.n, position, ...outcome })
})
process.send!('works')
