import conduit from '../../examples/conduit/app.ts'
import { observe } from '../../src/observe/observe.ts'
import { TraceRing } from '../../src/observe/traces/ring.ts'
import { boot } from '../../src/runtime/boot.ts'
import { createLog } from '../../src/runtime/log.ts'
import { readBindings } from '../../src/topology/bindings.ts'

/** Conduit as a process of its own: `bare`, `observed`, or `traced`, which also keeps its last traces. */

const how = process.argv[2] as 'bare' | 'observed' | 'traced'
const config = readBindings(process.env, process.cwd())
const running = await boot(conduit, config, {
  log: createLog(conduit.name, config.log.level),
  extensions: { bare: [], observed: [observe()], traced: [observe({ traces: new TraceRing() })] }[how],
})
process.stdout.write(`${JSON.stringify({ url: running.url, postgresPid: running.server.pid() }, null, 2)}\n`)
process.on('SIGTERM', () => void running.stop())
