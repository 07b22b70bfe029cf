import conduit from '../../examples/conduit/app.ts'
import { observe } from '../../src/observe/observe.ts'
import { boot } from '../../src/runtime/boot.ts'
import { createLog } from '../../src/runtime/log.ts'
import { readBindings } from '../../src/topology/bindings.ts'

/** Conduit as a process of its own, `observed` or bare. */

const config = readBindings(process.env, process.cwd())
const running = await boot(conduit, config, {
  log: createLog(conduit.name, config.log.level),
  extensions: process.argv[2] === 'observed' ? [observe()] : [],
})
process.stdout.write(`${JSON.stringify({ url: running.url, postgresPid: running.server.pid() }, null, 2)}\n`)
process.on('SIGTERM', () => void running.stop())
