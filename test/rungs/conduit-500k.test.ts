import { after, before, describe } from 'node:test'
import { fileURLToPath } from 'node:url'
import { noHaproxy } from '../support/haproxy.ts'
import { noNats } from '../support/nats.ts'
import { noNginx } from '../support/nginx.ts'
import { noPooler } from '../support/pgbouncer.ts'
import { openScratch } from '../support/process.ts'
import { noRedis } from '../support/redis.ts'
import { browserTests } from './conduit-browser.ts'
import { conduitSuite } from './conduit-suite.ts'

const nodes = {
  // The hard case: every request asks it.
  accounts: { modules: ['identity'], web: 1 },
  media: { modules: ['avatars'], web: 1, worker: 1 },
  notify: { modules: ['notifications'], worker: 1 },
}

/** The same code, the same suite; what differs is the word after `rung up`, and which modules have nodes of their own. */
describe('rung 500k', { skip: noRedis || noNginx || noHaproxy || noPooler || noNats }, () => {
  const app = fileURLToPath(new URL('../../examples/conduit/app.ts', import.meta.url))
  let scratch: Awaited<ReturnType<typeof openScratch>>
  let url: string
  before(async () => {
    scratch = await openScratch()
    const env = { NODE_ENV: 'test', RUNG_NODES: JSON.stringify(nodes), RUNG_WEB: '2', RUNG_REPLICAS: '1' }
    ;({ url } = await scratch.launch({ up: '500k', app, env }).started)
  })
  after(() => scratch?.end())
  const target = () => ({ baseUrl: url })
  conduitSuite(target)
  browserTests(target)
})
