/** The app on two databases as a process of its own, which ends itself at a moment of a job. Says its address when it works. */

import { boot } from '../../src/runtime/boot.ts'
import { createLog } from '../../src/runtime/log.ts'
import { readBindings } from '../../src/topology/bindings.ts'
import app from './apps/two-databases/app.ts'
import { dieAt } from './order-work.ts'

const { env, billing, at } = JSON.parse(process.argv[2]!)
dieAt(at)
const bindings = { ...readBindings(env, process.cwd()), databases: [billing] }
const { url } = await boot(app, bindings, { log: createLog('test', 'silent') })
process.on('disconnect', () => process.exit(0))
process.send!(url)
