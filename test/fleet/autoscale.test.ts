import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import { it } from 'node:test'
import { fileURLToPath } from 'node:url'
import { noHaproxy } from '../support/haproxy.ts'
import { noNginx } from '../support/nginx.ts'
import { noPooler } from '../support/pgbouncer.ts'
import { type Launched, launchRung, sameExit, until, withScratch } from '../support/process.ts'
import { noRedis } from '../support/redis.ts'

const app = fileURLToPath(new URL('../support/apps/orders/app.ts', import.meta.url))

it(
  'processes that are autoscaled become more under load, and no request fails; workers follow the age of jobs',
  {
    skip: noRedis || noNginx || noHaproxy || noPooler,
  },
  () =>
    withScratch(async ({ dataDir, dir, launch }) => {
      const run = (...command: string[]): Launched => launchRung({ command, dataDir, cwd: dir })
      async function rung<T>(...command: string[]): Promise<T> {
        const { exited, stdout, stderr } = run(...command, '--json')
        sameExit(await exited, 0)
        return JSON.parse(stdout() || stderr()) as T
      }
      const count = async (role: string) => {
        const { parts } = await rung<{ parts: { name: string; state: string }[] }>('ps', '--brief')
        return parts.filter(({ name, state }) => name.startsWith(role) && state === 'running').length
      }

      // With so little of a processor for each process, any machine is fast enough to keep one busy.
      const env = { RUNG_LIMITS: 'off', RUNG_SHEDDING: 'off', RUNG_NODE_CPU: '0.1' }
      const args = ['--web', '1..3', '--worker', '0..2', '--replicas', '0']
      const up = launch({ up: '100k', app, args, env })
      const { url } = await up.started
      assert.deepEqual([await count('web'), await count('worker')], [1, 0])
      const placed = await fetch(`${url}/orders`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({ note: 'a' }),
      })
      assert.equal(placed.status, 201)
      const { id } = (await placed.json()) as { id: number }
      const effects = async () => {
        const answer = await fetch(`${url}/effects/${id}`)
        return `${answer.status} ${await answer.text()}`
      }
      assert.equal(await effects(), '200 []')

      const failed: string[] = []
      let over = false
      const load = Promise.all(
        Array.from({ length: 24 }, async () => {
          while (!over) {
            const outcome = await effects().catch((error: Error) => `no answer: ${error.message}`)
            if (!outcome.startsWith('200 ')) failed.push(outcome)
          }
        }),
      )
      try {
        await until(async () => (await count('web')) > 1, 'there are more web processes')
        await until(async () => (await count('worker')) > 0, 'there is a worker')
        await until(async () => (await effects()) === '200 ["billed","shipped"]', 'the jobs are done')
      } finally {
        over = true
        await load
      }
      assert.deepEqual(failed, [])

      const ps = run('ps', '--brief')
      sameExit(await ps.exited, 0)
      assert.match(ps.stdout(), /^web 1 to 3, autoscaled: .+\.$/m)
      assert.match(ps.stdout(), /^worker 0 to 2, autoscaled: .+\.$/m)

      // The autoscaler may be changing the fleet at this moment: a command waits for it.
      const { scaling } = await rung<{ scaling: object }>('scale', 'web=2..4')
      assert.deepEqual(scaling, { web: { least: 2, most: 4 }, worker: { least: 0, most: 2 } })
      const refused = run('scale', 'web=2..40')
      sameExit(await refused.exited, 1)
      assert.match(
        refused.stdout() + refused.stderr(),
        /This may need \d+ connections, and Postgres was started with \d+/,
      )
      const fixed = await rung<{ now: object; scaling?: object }>('scale', 'web=1', 'worker=1')
      assert.deepEqual(fixed, { ...fixed, now: { web: 1, worker: 1, replicas: 0 } })
      assert.equal(fixed.scaling, undefined)
      assert.deepEqual([await count('web'), await count('worker')], [1, 1])

      sameExit(await up.stop(), 0)
      const { loads, starts } = JSON.parse(await readFile(`${dataDir}/fleet/scaling.json`, 'utf8'))
      assert.ok(loads.web.peaks[0].most > 0 && starts[0] > 0, 'it remembers the peak, and how long a start took')
    }),
)
