import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { losePrimaries } from '../support/failovers.ts'
import { noHaproxy } from '../support/haproxy.ts'
import { idsIn, post } from '../support/ledger.ts'
import { noNginx } from '../support/nginx.ts'
import { noPooler } from '../support/pgbouncer.ts'
import { type Facts, type Launched, launchRung, openScratch, type Scratch, until } from '../support/process.ts'
import { noRedis } from '../support/redis.ts'

const skip = noRedis || noNginx || noHaproxy || noPooler

describe('a fleet that loses its primary', { skip }, () => {
  let scratch: Scratch & { end(): Promise<void> }
  let up: Launched
  let facts: Facts
  before(async () => {
    scratch = await openScratch()
    up = scratch.launch({ up: '100k', args: ['--web', '2'] })
    facts = await up.started
  })
  after(() => scratch?.end())

  async function roles(): Promise<(string | undefined)[]> {
    const { exited, stdout } = launchRung({ command: ['ps', '--json'], dataDir: scratch.dataDir, cwd: scratch.dir })
    assert.equal((await exited).code, 0, stdout())
    const { parts } = JSON.parse(stdout()) as { parts: { role?: string }[] }
    return parts.map(({ role }) => role)
  }

  it('goes on with a replica after a death and after a freeze, and has every entry that it acknowledged', async (t) => {
    const { dataDir } = scratch
    const signals = ['SIGKILL', 'SIGSTOP'] as const
    const failovers = await losePrimaries({ facts, dataDir, replicas: 2, signals })
    const { times, acknowledged, lost, denied, unseen, others } = failovers
    t.diagnostic(times.map(({ signal, ms }) => `${signal}: ${ms} ms`).join(', '))
    assert.deepEqual({ lost, denied, unseen }, { lost: [], denied: [], unseen: [] })
    // A process that lost its database says so, or that it does not know. Nothing else went wrong.
    for (const answer of others.keys()) assert.match(answer, /^503 /, [...others].join('; '))
    await until(
      async () => (await roles()).filter((role) => role === 'replica').length === 2,
      'the old primaries are shown as replicas',
    )

    await up.stop()
    // At another rung, the place of the first server is the primary's again.
    const alone = await scratch.launch({}).started
    const there = new Set(await idsIn(alone))
    assert.ok(acknowledged.every((id) => there.has(id)))
    assert.equal(await post(alone, 'alone'), '201')
  })
})
