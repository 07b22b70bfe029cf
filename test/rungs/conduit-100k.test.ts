import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { fileURLToPath } from 'node:url'
import { noHaproxy } from '../support/haproxy.ts'
import { noNginx } from '../support/nginx.ts'
import { noPooler } from '../support/pgbouncer.ts'
import { openScratch } from '../support/process.ts'
import { noRedis } from '../support/redis.ts'
import { browserTests } from './conduit-browser.ts'
import { conduitSuite } from './conduit-suite.ts'

/** The same code, the same suite; what differs is the word after `rung up`. */
describe('rung 100k', { skip: noRedis || noNginx || noHaproxy || noPooler }, () => {
  const app = fileURLToPath(new URL('../../examples/conduit/app.ts', import.meta.url))
  let scratch: Awaited<ReturnType<typeof openScratch>>
  let up: Awaited<ReturnType<typeof start>>
  const start = () => scratch.launch({ up: '100k', app, env: { NODE_ENV: 'test' } }).started
  before(async () => {
    scratch = await openScratch()
    up = await start()
  })
  after(() => scratch?.end())
  const target = () => ({ baseUrl: up.url })
  conduitSuite(target)
  browserTests(target)

  it('most reads are answered by a replica', async () => {
    const reads = { primary: 0, replica: 0 }
    for (const { name, address } of up.parts!.filter(({ name }) => name.startsWith('web-'))) {
      const text = await (await fetch(`http://${address}/metrics`)).text()
      for (const [, server, why, count] of text.matchAll(
        /^db_reads_total\{.*server="([^"]*)",why="([^"]*)"\} (\d+)/gm,
      )) {
        assert.ok(server !== '', `${name}: a read was ${why}`)
        reads[why === 'replica' ? 'replica' : 'primary'] += Number(count)
      }
    }
    if (process.env.RUNG_TEST_LAG) console.error(reads)
    assert.ok(reads.replica > reads.primary, JSON.stringify(reads))
  })
})
