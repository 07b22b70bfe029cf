import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import path from 'node:path'
import { after, before, describe, it } from 'node:test'
import { type Machine, noPatroni, type PatroniCluster, startPatroni } from '../support/patroni.ts'
import { type Facts, launchRung, ledgerApp, openScratch, type Scratch, sendTo, until } from '../support/process.ts'
import { type Outcome, startWriters } from '../support/writers.ts'

describe('an app on a Postgres that Patroni keeps', { skip: noPatroni }, () => {
  let scratch: Scratch & { end(): Promise<void> }
  let cluster: PatroniCluster
  /** One knows the addresses of the servers, the other one reaches the primary through HAProxy. */
  let apps: Facts[]
  before(async () => {
    scratch = await openScratch()
    cluster = await startPatroni(scratch.dir)
    const RUNG_SECRET = randomBytes(32).toString('hex')
    const start = (name: string, env: Record<string, string>) =>
      scratch.launch({ dataDir: path.join(scratch.dir, name), env: { ...env, RUNG_SECRET } }).started
    apps = [await start('direct', cluster.direct), await start('balanced', cluster.balanced)]
  })
  after(async () => {
    await cluster?.stop()
    await scratch?.end()
  })

  async function metric(app: Facts, name: RegExp): Promise<number> {
    const text = await (await fetch(`${app.url}/metrics`)).text()
    const lines = text.split('\n').filter((line) => name.test(line))
    return lines.reduce((sum, line) => sum + Number(line.split(' ').at(-1)), 0)
  }

  /** Both replicas are in rotation, and reads go there. */
  async function replicasRead(app: Facts): Promise<void> {
    const readsOnReplicas = () => metric(app, /^db_reads_total\{.*why="replica"/)
    const before = await readsOnReplicas()
    await until(async () => (await metric(app, /^db_server_in_rotation\{/)) === 2, 'both replicas are in rotation')
    await until(async () => (await readsOnReplicas()) > before, 'replicas read')
  }

  async function rung(command: string): Promise<number | null> {
    const one = launchRung({ command: [command, ledgerApp], dataDir: apps[0]!.data, env: cluster.direct })
    const { code } = await one.exited
    assert.ok(code !== 1, `rung ${command}: ${one.stdout()}${one.stderr()}`)
    return code
  }

  it('loses nothing when a postmaster, a machine or Patroni is killed, and in a switchover', async (t) => {
    const writers = startWriters(apps)
    const { acknowledged, unseen, others } = writers

    /** Returns the primary before and after. */
    async function during(what: string, lose: (primary: Machine) => Promise<void>): Promise<[Machine, Machine]> {
      const was = await cluster.untilWhole()
      const enough = acknowledged.length + 50
      await until(() => acknowledged.length >= enough, 'entries are acknowledged')
      writers.longestPause()
      await lose(was)
      await writers.writtenAgain()
      const is = await cluster.untilWhole()
      await Promise.all(apps.map(replicasRead))
      t.diagnostic(`${what}: no write for ${writers.longestPause()} ms`)
      return [was, is]
    }

    let outcome: Outcome
    try {
      await during('postmaster', async (primary) => {
        const [postmaster] = await cluster.postgres(primary)
        sendTo(postmaster!, 'SIGKILL')
        await writers.writtenAgain()
      })
      const moves = [
        await during('machine', async (primary) => {
          await cluster.lose(primary)
          await writers.writtenAgain()
          await cluster.start(primary)
        }),
        await during('switchover', cluster.switchover),
        // Its Postgres goes on, still as a primary when another one is promoted. Patroni finds it like this when it comes back.
        await during('Patroni', async (primary) => {
          await cluster.losePatroni(primary)
          await until(async () => (await cluster.primary()) !== primary, 'another server is the primary')
          await cluster.start(primary)
        }),
      ]
      for (const [was, is] of moves) assert.notEqual(is, was)
      await rung('migrate')
      await rung('doctor')
    } finally {
      outcome = await writers.end()
    }
    t.diagnostic(`${acknowledged.length} acknowledged; other answers: ${[...others].join('; ')}`)
    assert.deepEqual({ ...outcome, unseen }, { lost: [], denied: [], unseen: [] })
    for (const answer of others.keys()) assert.match(answer, /^503 DATA_/, [...others].join('; '))
  })
})
