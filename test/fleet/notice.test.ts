import assert from 'node:assert/strict'
import { it } from 'node:test'
import { noHaproxy } from '../support/haproxy.ts'
import { underLoad, write } from '../support/ledger.ts'
import { noNginx } from '../support/nginx.ts'
import { noPooler } from '../support/pgbouncer.ts'
import { launchRung, sameExit, until, withScratch } from '../support/process.ts'
import { noRedis } from '../support/redis.ts'

it(
  'a web process that gets a notice ends what it has begun, is replaced, and no request fails',
  {
    skip: noRedis || noNginx || noHaproxy || noPooler,
  },
  () =>
    withScratch(async ({ dataDir, dir, launch }) => {
      // Longer than the balancer needs to see that it is no longer ready, also on a busy machine.
      const env = { RUNG_DRAIN_MS: '5000' }
      const facts = await launch({ up: '100k', args: ['--web', '2', '--replicas', '0'], env }).started
      await write(facts, 'first')
      async function web1(): Promise<{ pid: number; restarts: number; state: string }> {
        const { exited, stdout } = launchRung({ command: ['ps', '--brief', '--json'], dataDir, cwd: dir })
        sameExit(await exited, 0)
        const { parts } = JSON.parse(stdout()) as {
          parts: { name: string; pid: number; restarts: number; state: string }[]
        }
        return parts.find(({ name }) => name === 'web-1')!
      }
      const outcome = await underLoad(facts, async () => {
        for (let round = 1; round <= 3; round++) {
          process.kill((await web1()).pid, 'SIGTERM')
          await until(async () => {
            const { state, restarts } = await web1()
            return state === 'running' && restarts === round
          }, 'it is replaced')
        }
      })
      assert.deepEqual(outcome, { writes: [], reads: [] })
    }),
)
