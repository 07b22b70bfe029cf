/** The till as a light process of its own: tells its URL, dies at a moment that it is told, ends with its parent. */
import { subscribe } from 'node:diagnostics_channel'
import type { Limit } from 'rung'
import { boot } from '../../src/runtime/boot.ts'
import { createLog } from '../../src/runtime/log.ts'
import { readBindings } from '../../src/topology/bindings.ts'
import till from './apps/till/app.ts'

const { url, at, user } = JSON.parse(process.argv[2]!) as {
  url: string
  at?: { moment: string; nth: number }
  /** Limits are on, with this one. */
  user?: Limit
}
let seen = 0
if (at) {
  subscribe('rung:idempotency-moment', (message) => {
    if ((message as { at: string }).at !== at.moment) return
    seen += 1
    if (seen === at.nth) process.kill(process.pid, 'SIGKILL')
  })
}
const config = readBindings(
  {
    PORT: '0',
    NODE_ENV: 'production',
    LOG_LEVEL: 'silent',
    DATABASE_URL: url,
    RUNG_LIMITS: user ? 'on' : 'off',
    RUNG_SHEDDING: 'off',
    RUNG_ROLE: 'web',
    RUNG_SECRET: 'a secret of the tests, long enough to be one',
  },
  process.cwd(),
)
const running = await boot(user ? { ...till, limits: { user } } : till, config, {
  log: createLog('till', config.log.level),
})
process.on('disconnect', () => process.exit(0))
process.send!(running.url)
