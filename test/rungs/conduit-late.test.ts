import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { fileURLToPath } from 'node:url'
import { noHaproxy } from '../support/haproxy.ts'
import { noNginx } from '../support/nginx.ts'
import { noPooler } from '../support/pgbouncer.ts'
import { PositionJar } from '../support/position-jar.ts'
import { openScratch } from '../support/process.ts'
import { noRedis } from '../support/redis.ts'
import { askOne } from '../support/standby.ts'
import { conduitSuite } from './conduit-suite.ts'

/** How late replicas show what was committed; `paused`: nothing new at all. RUNG_TEST_LAG names others. */
const lags = process.env.RUNG_TEST_LAG?.split(',') ?? ['2s']

for (const lag of lags) {
  describe(`rung 100k, with replicas that are late: ${lag}`, {
    skip: noRedis || noNginx || noHaproxy || noPooler,
  }, () => {
    const app = fileURLToPath(new URL('../../examples/conduit/app.ts', import.meta.url))
    let scratch: Awaited<ReturnType<typeof openScratch>>
    let up: Awaited<ReturnType<typeof start>>
    const start = () => scratch.launch({ up: '100k', app, env: { NODE_ENV: 'test', RUNG_LAG_MS: '60000' } }).started
    before(async () => {
      scratch = await openScratch()
      up = await start()
      for (const name of ['postgres-2', 'postgres-3']) {
        const admin = { host: `${scratch.dataDir}/${name}/run`, port: 5432, user: 'rung', database: 'postgres' }
        if (lag === 'paused') await askOne(admin, 'select pg_wal_replay_pause()')
        else await askOne(admin, `alter system set recovery_min_apply_delay = '${lag}'`)
        await askOne(admin, 'select pg_reload_conf()')
      }
    })
    after(() => scratch?.end())
    const positions = new PositionJar()
    conduitSuite(() => ({ baseUrl: up.url, positions }))

    it('reads were sent to replicas as well, and none was refused', async () => {
      const reads: Record<string, number> = {}
      for (const { address } of up.parts!.filter(({ name }) => name.startsWith('web-'))) {
        const text = await (await fetch(`http://${address}/metrics`)).text()
        for (const [, why, count] of text.matchAll(/^db_reads_total\{.*why="([^"]*)"\} (\d+)/gm))
          reads[why!] = (reads[why!] ?? 0) + Number(count)
      }
      if (process.env.RUNG_TEST_LAG) console.error(lag, reads)
      assert.ok(reads.replica! > 0, JSON.stringify(reads))
      assert.equal(reads.refused, undefined)
    })
  })
}
