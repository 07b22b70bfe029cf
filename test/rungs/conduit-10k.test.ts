import { after, before, describe } from 'node:test'
import { fileURLToPath } from 'node:url'
import { noNginx } from '../support/nginx.ts'
import { openScratch } from '../support/process.ts'
import { noRedis } from '../support/redis.ts'
import { conduitSuite } from './conduit-suite.ts'

/** The same code, the same suite; what differs is the word after `rung up`. */
describe('rung 10k', { skip: noRedis || noNginx }, () => {
  const app = fileURLToPath(new URL('../../examples/conduit/app.ts', import.meta.url))
  let scratch: Awaited<ReturnType<typeof openScratch>>
  let baseUrl: string
  before(async () => {
    scratch = await openScratch()
    // Writes and reads of one client go to different processes.
    const up = scratch.launch({ up: '10k', app, args: ['--web', '2'], env: { NODE_ENV: 'test' } })
    baseUrl = (await up.started).url
  })
  after(() => scratch?.end())
  conduitSuite(() => ({ baseUrl }))
})
