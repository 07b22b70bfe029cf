import { after, before, describe } from 'node:test'
import { fileURLToPath } from 'node:url'
import { noHaproxy } from '../support/haproxy.ts'
import { noNginx } from '../support/nginx.ts'
import { noPooler } from '../support/pgbouncer.ts'
import { openScratch } from '../support/process.ts'
import { noRedis } from '../support/redis.ts'
import { conduitSuite } from './conduit-suite.ts'

const nodes = {
  // The hard case: every request asks it.
  accounts: { modules: ['identity'], web: 1 },
  media: { modules: ['avatars'], web: 1, worker: 1 },
  notify: { modules: ['notifications'], worker: 1 },
}

/** The same code, the same suite; some modules have nodes of their own. */
describe('Conduit with modules on their own nodes', { skip: noRedis || noNginx || noHaproxy || noPooler }, () => {
  const app = fileURLToPath(new URL('../../examples/conduit/app.ts', import.meta.url))
  let scratch: Awaited<ReturnType<typeof openScratch>>
  let url: string
  before(async () => {
    scratch = await openScratch()
    const env = { NODE_ENV: 'test', RUNG_NODES: JSON.stringify(nodes), RUNG_WEB: '2' }
    ;({ url } = await scratch.launch({ up: '100k', app, env }).started)
  })
  after(() => scratch?.end())
  conduitSuite(() => ({ baseUrl: url }))
})
