import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { after, before, describe, it } from 'node:test'
import { fileURLToPath } from 'node:url'
import { type FleetKills, killParts, victimsOf100k } from '../support/fleet-kills.ts'
import { noHaproxy } from '../support/haproxy.ts'
import { noNginx } from '../support/nginx.ts'
import { noPooler } from '../support/pgbouncer.ts'
import { openScratch } from '../support/process.ts'
import { noRedis } from '../support/redis.ts'
import { conduitApiSuite } from './conduit-suite.ts'
import { PatientConduit } from './patience.ts'

const seed = Number(process.env.RUNG_TEST_SEED ?? 7)
/** On an empty database, or on one with so many articles. */
const articles = Number(process.env.RUNG_TEST_ARTICLES ?? 0)

/** `bench faults` runs this file again and again, also on a database with articles. */
describe(`rung 100k, while its parts are killed (RUNG_TEST_SEED=${seed})`, {
  skip: noRedis || noNginx || noHaproxy || noPooler,
}, () => {
  const root = fileURLToPath(new URL('../../', import.meta.url))
  const app = `${root}examples/conduit/app.ts`
  const patience = new PatientConduit()
  let scratch: Awaited<ReturnType<typeof openScratch>>
  let up: Awaited<ReturnType<typeof start>>
  let kills: FleetKills
  const start = () => scratch.launch({ up: '100k', app, env: { NODE_ENV: 'test' } }).started
  before(async () => {
    scratch = await openScratch()
    up = await start()
    if (articles > 0) {
      const args = ['--conditions=rung-source', `${root}examples/conduit/seed/main.ts`, '--articles', String(articles)]
      const env = { ...process.env, RUNG_DATA: scratch.dataDir }
      assert.equal(spawnSync(process.execPath, args, { cwd: root, env }).status, 0, 'it is seeded')
    }
    kills = killParts({ dataDir: scratch.dataDir, seed, victims: victimsOf100k })
  })
  after(async () => {
    await kills?.stop().catch(() => {})
    await scratch?.end()
  })

  conduitApiSuite(() => ({ baseUrl: up.url, patience }))

  it('no request failed that could not be sent again', async () => {
    await kills.stop()
    const { repeated, unknown, failed } = patience
    if (process.env.RUNG_TEST_SEED)
      console.error(JSON.stringify({ killed: kills.killed, repeated, unknown: unknown.length }))
    assert.deepEqual(failed, [])
    assert.ok(kills.killed.length > 3, kills.killed.join())
    // A process that is killed has at most the requests of one moment in it.
    const processes = kills.killed.filter((name) => /^(web|pooler)/.test(name)).length
    assert.ok(unknown.length <= 30 * processes, unknown.join('\n'))
  })
})
