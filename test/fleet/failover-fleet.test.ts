import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { memberFiles } from '../../src/engines/postgres/members.ts'
import { adminAt } from '../../src/engines/postgres/server.ts'
import { processesIn } from '../../src/engines/process/processes-in.ts'
import { noHaproxy } from '../support/haproxy.ts'
import { idsIn, post } from '../support/ledger.ts'
import { noNginx } from '../support/nginx.ts'
import { noPooler } from '../support/pgbouncer.ts'
import { type Facts, type Launched, launchRung, openScratch, type Scratch, until } from '../support/process.ts'
import { noRedis } from '../support/redis.ts'
import { askOne } from '../support/standby.ts'

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

  async function roles(): Promise<Record<string, string>> {
    const { exited, stdout } = launchRung({ command: ['ps', '--json'], dataDir: scratch.dataDir, cwd: scratch.dir })
    assert.equal((await exited).code, 0, stdout())
    const { parts } = JSON.parse(stdout()) as { parts: { name: string; role?: string }[] }
    return Object.fromEntries(parts.flatMap(({ name, role }) => (role ? [[name, role]] : [])))
  }
  const primary = async () => Object.entries(await roles()).find(([, role]) => role === 'primary')?.[0]
  const hasReplicas = async () => Object.values(await roles()).filter((role) => role === 'replica').length === 2
  const isProtected = () => until(async () => (await hasReplicas()) && (await isSynchronous()), 'both replicas follow')
  async function isSynchronous(): Promise<boolean> {
    const name = (await primary())!
    const names = await askOne(adminAt(memberFiles(scratch.dataDir, name).socketDir), 'show synchronous_standby_names')
    return String(names).split(',').length === 2
  }

  it('goes on with a replica after a death and after a freeze, and has every entry that it acknowledged', async () => {
    const acknowledged: string[] = []
    const others = new Map<string, number>()
    let over = false
    const writers = [1, 2, 3].map(async (writer) => {
      for (let n = 1; !over; n += 1) {
        const id = `${writer}-${n}`
        const answer = await post(facts, id)
        if (answer === '201') acknowledged.push(id)
        else others.set(answer, (others.get(answer) ?? 0) + 1)
      }
    })
    for (const signal of ['SIGKILL', 'SIGSTOP'] as const) {
      await isProtected()
      const before = (await primary())!
      const enough = acknowledged.length + 20
      await until(() => acknowledged.length >= enough, 'entries are acknowledged')
      for (const pid of await processesIn(memberFiles(scratch.dataDir, before).data)) process.kill(pid, signal)
      await until(
        async () => ![undefined, before].includes(await primary()),
        () => `${signal}: another one is the primary: ${up.stderr()}`,
      )
      const more = acknowledged.length + 20
      await until(() => acknowledged.length >= more, 'entries are acknowledged again')
    }
    await isProtected() // the old ones are back
    over = true
    await Promise.all(writers)
    // A process that lost its database says so, or that it does not know. Nothing else went wrong.
    for (const answer of others.keys()) assert.match(answer, /^503 |DATA_OUTCOME_UNKNOWN/, [...others].join('; '))
    const found = new Set(await idsIn(facts))
    assert.deepEqual(
      acknowledged.filter((id) => !found.has(id)),
      [],
    )

    await up.stop()
    // At another rung, the place of the first server is the primary's again.
    const alone = await scratch.launch({}).started
    const there = new Set(await idsIn(alone))
    assert.ok(acknowledged.every((id) => there.has(id)))
    assert.equal(await post(alone, 'alone'), '201')
  })
})
