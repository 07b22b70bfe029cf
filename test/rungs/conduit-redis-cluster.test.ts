import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { fileURLToPath } from 'node:url'
import { type FleetKills, killParts } from '../support/fleet-kills.ts'
import { noNginx } from '../support/nginx.ts'
import { openScratch } from '../support/process.ts'
import { noRedis } from '../support/redis.ts'
import { conduitApiSuite } from './conduit-suite.ts'
import { PatientConduit } from './patience.ts'

describe('rung 10k with three nodes of Redis, which are killed one after the other', {
  skip: noRedis || noNginx,
}, () => {
  const app = fileURLToPath(new URL('../../examples/conduit/app.ts', import.meta.url))
  const patience = new PatientConduit()
  let scratch: Awaited<ReturnType<typeof openScratch>>
  let up: Awaited<ReturnType<typeof start>>
  let kills: FleetKills
  const start = () =>
    scratch.launch({ up: '10k', app, env: { NODE_ENV: 'test', RUNG_REDIS_NODES: '3' }, args: ['--web', '2'] }).started
  before(async () => {
    scratch = await openScratch()
    up = await start()
    const victims = ['redis-1', 'redis-2', 'redis-3']
    kills = killParts({ dataDir: scratch.dataDir, seed: 7, victims, pauseMsMax: 100 })
  })
  after(async () => {
    await kills?.stop().catch(() => {})
    await scratch?.end()
  })

  conduitApiSuite(() => ({ baseUrl: up.url, patience }))

  it('no request failed, and none had to be sent again', async () => {
    await kills.stop()
    const { repeated, unknown, failed } = patience
    assert.deepEqual([failed, unknown, repeated], [[], [], {}])
    assert.ok(kills.killed.length > 1, kills.killed.join())
  })
})
