import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import { describe, it } from 'node:test'
import { zonesOf } from '../../src/fleet/zones.ts'
import { noHaproxy } from '../support/haproxy.ts'
import { underLoad, write } from '../support/ledger.ts'
import { noNginx } from '../support/nginx.ts'
import { noPooler } from '../support/pgbouncer.ts'
import { planOf } from '../support/plan.ts'
import { launchRung, sameExit, until, withScratch } from '../support/process.ts'
import { noRedis } from '../support/redis.ts'

const webs = (count: number) => Array.from({ length: count }, (_, index) => ({ name: `web-${index + 1}`, kind: 'web' }))
const inOrder = (zones: ReadonlyMap<string, string>) => [...zones.values()].join(' ')

describe('zones', () => {
  it('get the parts of each kind in turn, and all parts evenly', () => {
    const parts = [{ name: 'postgres', kind: 'postgres' }, ...webs(3), { name: 'worker-1', kind: 'worker' }]
    assert.equal(inOrder(zonesOf(['a', 'b'], parts, new Map())), 'a b a b a')
    assert.equal(inOrder(zonesOf(['a', 'b', 'c'], webs(7), new Map())), 'a b c a b c a')
    assert.equal(zonesOf([], webs(2), new Map()).size, 0)
  })

  it('keep their parts; a new part goes where the fewest are', () => {
    const held = new Map([
      ['web-1', 'a'],
      ['web-2', 'a'],
      ['web-3', 'gone'],
    ])
    assert.equal(inOrder(zonesOf(['a', 'b'], webs(4), held)), 'a a b b')
  })

  it('are told to processes of the app and to servers of the database, and survive a change of the plan', () => {
    const env = { RUNG_ZONES: 'a,b', RUNG_POOLER: 'off' }
    const ports = Array.from({ length: 30 }, (_, index) => 21_001 + index)
    const plan = planOf({ env, options: { rung: '100k', web: '2' }, site: { ports } })
    const zones = Object.fromEntries(plan.parts.map(({ name, zone }) => [name, zone]))
    const none = { edge: undefined, balancer: undefined, redis: undefined }
    assert.deepEqual(zones, {
      ...none,
      ...{ postgres: 'a', 'postgres-2': 'b', 'postgres-3': 'a', 'web-1': 'b', 'web-2': 'a', 'worker-1': 'b' },
    })
    for (const part of plan.parts) if (part.kind === 'app') assert.equal(part.env.RUNG_ZONE, part.zone)
    const more = planOf({ env, options: { rung: '100k', web: '4' }, site: { ports, held: plan } })
    assert.deepEqual(
      ['web-1', 'web-2', 'web-3', 'web-4', 'worker-1'].map((name) => more.zones.get(name)),
      ['b', 'a', 'a', 'b', 'b'],
    )
  })

  it('may be lost: no read fails, no write is done twice', { skip: noRedis || noNginx || noHaproxy || noPooler }, () =>
    withScratch(async ({ dataDir, dir, launch }) => {
      const env = { RUNG_ZONES: 'a,b' }
      const facts = await launch({ up: '100k', args: ['--web', '4', '--replicas', '1', '--worker', '2'], env }).started
      await write(facts, 'first')
      async function rung<T>(...command: string[]): Promise<T> {
        const { exited, stdout, stderr } = launchRung({ command: [...command, '--json'], dataDir, cwd: dir })
        sameExit(await exited, 0)
        return JSON.parse(stdout() || stderr()) as T
      }
      interface Row {
        name: string
        zone?: string
        state: string
        restarts: number
      }
      const parts = async () => (await rung<{ parts: Row[] }>('ps', '--brief')).parts
      const inB = (await parts()).filter(({ zone }) => zone === 'b').map(({ name }) => name)
      assert.deepEqual(inB.sort(), ['postgres-2', 'web-2', 'web-4', 'worker-2'])

      for (let round = 1; round <= 3; round++) {
        const { writes, reads } = await underLoad(facts, async () => {
          const { killed } = await rung<{ killed: string[] }>('kill', 'zone', 'b', '--yes')
          assert.deepEqual(killed.sort(), inB)
          await until(
            async () =>
              (await parts()).every(({ zone, state, restarts }) =>
                zone === 'b' ? state === 'running' && restarts === round : restarts === 0,
              ),
            'the zone is back',
          )
        })
        assert.deepEqual(reads, [])
        // A write that was done twice would be a conflict of its key.
        for (const outcome of writes) assert.match(outcome, /^502 HTTP_OUTCOME_UNKNOWN$|^503 /)
      }

      const web = facts.parts!.find(({ name }) => name === 'web-1')!
      const metrics = await (await fetch(`http://${web.address}/metrics`)).text()
      assert.match(metrics, /^process_info\{zone="a",role="web"\} 1$/m)
      assert.match(await readFile(`${dataDir}/fleet/web-1/server.log`, 'utf8'), /"zone":"a"/)
      const ps = launchRung({ command: ['ps', '--brief'], dataDir, cwd: dir })
      sameExit(await ps.exited, 0)
      assert.match(ps.stdout(), /^web-1 +running +\w* *a +\d+/m)
      for (const line of ps.stdout().split('\n')) assert.ok(line.length <= 80, line)
    }),
  )
})
