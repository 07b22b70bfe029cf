import assert from 'node:assert/strict'
import { once } from 'node:events'
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { readdir } from 'node:fs/promises'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { after, before, describe, it } from 'node:test'
import { faults } from '../../src/chaos/faults.ts'
import { type Client, connectOnce } from '../../src/engines/postgres/client.ts'
import { socketDirFor } from '../../src/engines/postgres/recipe.ts'
import { adminAt } from '../../src/engines/postgres/server.ts'
import { findHierarchy } from '../../src/engines/process/cpu-quota.ts'
import { fakeClocks } from '../../src/engines/process/fake-clock.ts'
import { isStopped } from '../../src/engines/process/pid-file.ts'
import { noFakeClocks } from '../support/fake-clock.ts'
import { noHaproxy } from '../support/haproxy.ts'
import { noNats } from '../support/nats.ts'
import { noNginx } from '../support/nginx.ts'
import { noPooler } from '../support/pgbouncer.ts'
import {
  type Facts,
  isRunning,
  type Launched,
  launchRung,
  openScratch,
  processesOn,
  type Scratch,
  sameExit,
  until,
  withScratch,
} from '../support/process.ts'
import { noRedis } from '../support/redis.ts'
import { withSmallDisk } from '../support/small-disk.ts'

const skip = noRedis || noNginx || noHaproxy || noPooler || noNats
const noGroups = findHierarchy('cpu') && findHierarchy('memory') ? false : 'no control groups can be made here'

interface Hand {
  parts: { part: string; did: string }[]
  heldMs: number
  wholeAfterMs: number | null
  error?: { code: string; message: string }
}

interface Row {
  name: string
  state: string
  pid: number
  address: string
  restarts: number
  zone: string
}

describe('rung chaos', { skip }, () => {
  let scratch: Scratch & { end(): Promise<void> }
  let up: Launched
  let facts: Facts
  before(async () => {
    scratch = await openScratch()
    const env = { NODE_ENV: 'development', RUNG_ZONES: 'a,b', RUNG_EVENTS: 'jetstream', ...fakeClocks }
    up = scratch.launch({ up: '100k', args: ['--web', '2', '--worker', '1', '--replicas', '1'], env })
    facts = await up.started
  })
  after(() => scratch?.end())

  const launch = (...words: string[]) =>
    launchRung({ command: [...words, '--json'], dataDir: scratch.dataDir, cwd: scratch.dir })

  async function rung<T>(...words: string[]): Promise<T> {
    const { exited, stdout, stderr } = launch(...words)
    await exited
    return JSON.parse(stdout() || stderr().slice(stderr().indexOf('{'))) as T
  }
  const chaos = (...words: string[]) => rung<Hand>('chaos', ...words)
  const rows = async () => (await rung<{ parts: Row[] }>('ps', '--brief')).parts
  const row = async (name: string) => (await rows()).find((one) => one.name === name)!

  /** Begins a fault that does not end by itself, and resolves once it is in force. */
  async function hold(...words: string[]): Promise<Launched> {
    const one = launch('chaos', ...words, '--for', '10m')
    await one.saw(new RegExp(`^${words[0]} .*: `, 'm'))
    return one
  }
  const records = () => (existsSync(`${scratch.dataDir}/chaos`) ? readdirSync(`${scratch.dataDir}/chaos`) : [])

  it('kills a part, and waits until the fleet is whole', async () => {
    const before = await row('web-1')
    const { parts, wholeAfterMs } = await chaos('kill', 'web-1')
    assert.match(parts[0]!.did, new RegExp(`^killed process ${before.pid}`))
    assert.ok(wholeAfterMs !== null)
    const now = await row('web-1')
    assert.equal(now.restarts, 1)
    assert.equal(isRunning(before.pid), false)
  })

  it('freezes a part until Ctrl-C', async () => {
    const { pid } = await row('worker-1')
    const one = await hold('freeze', 'worker-1')
    assert.ok(isStopped(pid))
    sameExit(await one.stop('SIGINT'), 0)
    assert.ok(isRunning(pid) && !isStopped(pid))
    assert.deepEqual(records(), [])
  })

  it('undoes a fault also when it is killed', async () => {
    const { pid } = await row('worker-1')
    const one = await hold('freeze', 'worker-1')
    await one.kill()
    await until(() => !isStopped(pid), 'the worker goes on')
    await until(() => records().length === 0, 'the record is gone')
    assert.ok(isRunning(pid))
  })

  it('undoes a fault with the next command, when even its guard was killed', async () => {
    const { pid } = await row('worker-1')
    const one = await hold('freeze', 'worker-1')
    const guards = (await processesOn(scratch.dataDir)).filter((other) =>
      readFileSync(`/proc/${other}/cmdline`, 'utf8').includes('rung-chaos-guard'),
    )
    assert.equal(guards.length, 1)
    process.kill(guards[0]!, 'SIGKILL')
    await one.kill()
    assert.ok(isStopped(pid))
    assert.equal(records().length, 1)
    assert.equal((await rung<unknown[]>('chaos', 'list')).length, faults.length)
    assert.ok(isRunning(pid) && !isStopped(pid))
    assert.deepEqual(records(), [])
  })

  it('is ended by rung chaos clear', async () => {
    const { pid } = await row('worker-1')
    const one = await hold('freeze', 'worker-1')
    const { undone } = await rung<{ undone: { fault: string; part: string }[] }>('chaos', 'clear')
    assert.deepEqual(
      undone.map(({ fault, part }) => [fault, part]),
      [['freeze', 'worker-1']],
    )
    sameExit(await one.exited, 0)
    assert.equal(isStopped(pid), false)
  })

  it('says so when a part does not run, instead of doing nothing', async () => {
    const one = await hold('stop', 'worker-1')
    const { error } = await chaos('freeze', 'worker-1', '--for', '10m')
    assert.equal(error?.code, 'CHAOS_NO_EFFECT')
    await one.stop('SIGINT')
    await until(async () => (await row('worker-1')).state === 'running', 'the worker is back')
  })

  it('squeezes CPU and memory in a control group', { skip: noGroups }, async () => {
    const { pid } = await row('worker-1')
    const groups = () => readFileSync(`/proc/${pid}/cgroup`, 'utf8')
    const home = groups()
    for (const fault of ['squeeze-cpu', 'squeeze-memory']) {
      const one = await hold(fault, 'worker-1', '--with', fault === 'squeeze-cpu' ? '0.2' : '64MiB')
      assert.match(groups(), new RegExp(`rung-${fault}\\.${pid}`))
      await one.stop('SIGTERM')
      assert.equal(groups(), home)
    }
  })

  it('sets the clocks of a process and of a server wrong', { skip: noFakeClocks }, async () => {
    const aheadMs = async () => {
      const { headers } = await fetch(`http://${(await row('web-1')).address}/healthz`)
      return Date.parse(headers.get('date')!) - Date.now()
    }
    const one = await hold('skew', 'web-1', '--with=-1h')
    assert.ok((await aheadMs()) < -3_590_000)
    assert.equal((await entries()).status, 200)
    await one.stop('SIGTERM')
    await until(async () => (await aheadMs()) > -10_000, 'the clock is right again')
    await held(['skew', 'primary'], async (client) => {
      const { rows } = await client.query('select extract(epoch from clock_timestamp())::float8 as now')
      assert.ok(rows[0].now - Date.now() / 1_000 > 110)
    })
  })

  async function held(words: string[], look: (client: Client) => Promise<void>): Promise<void> {
    const one = await hold(...words)
    const client = await scratch.connect(words[1] === 'replica' ? `${scratch.dataDir}/postgres-2` : scratch.dataDir)
    try {
      await look(client)
    } finally {
      await client.end()
      sameExit(await one.stop('SIGINT'), 0)
    }
  }
  const entries = () => fetch(`${facts.url}/entries`, { signal: AbortSignal.timeout(20_000) })

  it('ends the sessions of the app', async () => {
    const { parts } = await chaos('terminate', 'primary')
    assert.match(parts[0]!.did, /^ended [1-9]\d* session/)
    assert.equal((await entries()).status, 200)
  })

  it('takes all connections', async () => {
    const { dataDir } = scratch
    const one = await hold('exhaust', 'primary')
    const app = { ...adminAt(socketDirFor(dataDir, tmpdir())), user: 'app', database: 'app' }
    await assert.rejects(connectOnce(app), { code: '53300' })
    await one.stop('SIGINT')
    await (await connectOnce(app)).end()
  })

  it('holds a transaction and a lock', async () => {
    await held(['long-transaction', 'primary'], async (client) => {
      const { rows } = await client.query(
        `select 1 from pg_stat_activity where state = 'idle in transaction' and backend_xmin is not null`,
      )
      assert.equal(rows.length, 1)
    })
    await held(['lock', 'primary', '--with', 'ledger.entry'], async (client) => {
      await assert.rejects(client.query('begin; lock table ledger.entry in access share mode nowait'), {
        code: '55P03',
      })
    })
    assert.equal((await entries()).status, 200)
  })

  it('locks the table that is used most, and no table that does not exist', async () => {
    await held(['lock', 'primary'], async (client) => {
      const { rows } = await client.query(
        `select relation::regclass::text as name from pg_locks where mode = 'AccessExclusiveLock' and granted`,
      )
      assert.match(rows[0].name, /^ledger\./)
    })
    assert.equal((await chaos('lock', 'primary', '--with', 'ledger.nothing')).error?.code, 'COMMAND_INVALID')
  })

  it('pauses a replica, also for a command that is killed', async () => {
    const isPaused = async (client: Client) =>
      (await client.query('select pg_is_wal_replay_paused() as paused')).rows[0].paused as boolean
    await held(['pause-replay', 'replica'], async (client) => assert.ok(await isPaused(client)))
    const client = await scratch.connect(`${scratch.dataDir}/postgres-2`)
    assert.equal(await isPaused(client), false)
    const one = await hold('pause-replay', 'replica')
    assert.ok(await isPaused(client))
    await one.kill()
    await until(async () => !(await isPaused(client)), 'the replica goes on')
  })

  it('empties Redis, and makes it slow', async () => {
    assert.equal((await chaos('flush', 'redis')).parts[0]!.did, 'emptied Redis')
    const { parts } = await chaos('slow', 'redis', '--for', '500ms')
    assert.match(parts[0]!.did, /up to 100 ms/)
  })

  it('takes the events from NATS', async () => {
    await until(async () => (await chaos('lose-events', 'nats')).parts?.[0]?.did === 'deleted the stream', 'it had one')
    assert.equal((await chaos('lose-events', 'redis')).error?.code, 'COMMAND_INVALID')
  })

  it('puts a network with faults in front of every part that has clients', async () => {
    const words = [
      ['latency', 'primary'],
      ['jitter', 'replica'],
      ['bandwidth', 'pooler'],
      ['slicer', 'redis'],
      ['reset', 'redis'],
      ['half-open', 'primary'],
      ['black-hole', 'web-1'],
      ['latency', 'web-2'],
      ['black-hole', 'balancer'],
    ]
    for (const [fault, part] of words) {
      const { parts, wholeAfterMs, error } = await chaos(fault!, part!, '--for', '300ms')
      assert.equal(error, undefined, `${fault} ${part}: ${error?.message}`)
      assert.notEqual(parts[0]!.did, 'nothing')
      assert.ok(wholeAfterMs !== null, `${fault} ${part}`)
    }
    assert.deepEqual(
      (await readdir(scratch.dataDir, { recursive: true })).filter((name) => /\.(real|proxy)$/.test(name)),
      [],
    )
    assert.equal((await entries()).status, 200)
  })

  it('delays what the page cache asks the balancer, until the command is killed', async () => {
    const tookMs = async () => {
      const began = performance.now()
      assert.equal((await entries()).status, 200)
      return performance.now() - began
    }
    const one = await hold('latency', 'balancer', '--with', '700ms')
    assert.ok((await tookMs()) >= 1_399)
    await one.kill()
    await until(() => records().length === 0, 'its guard has undone it')
    await until(async () => (await tookMs()) < 1_399, 'the page cache asks the balancer itself')
  })

  it('delays what the app asks Redis, until the command is killed', async () => {
    const socket = facts.parts!.find(({ name }) => name === 'redis')!.address
    const ping = async () => {
      const began = performance.now()
      const connection = connect(socket).on('error', () => {})
      connection.write('PING\r\n')
      await once(connection, 'data')
      connection.destroy()
      return performance.now() - began
    }
    const one = await hold('latency', 'redis', '--with', '80ms')
    assert.ok((await ping()) >= 159)
    assert.equal((await chaos('jitter', 'redis')).error?.code, 'CHAOS_REFUSED')
    await one.kill()
    await until(() => records().length === 0, 'its guard has undone it')
    assert.equal(existsSync(`${socket}.real`), false)
    await ping()
  })

  it('runs a schedule, alone and in pairs', async () => {
    interface Run {
      schedule: object[]
      rounds: { faults: { part: string; error?: string }[]; wholeAfterMs: number | null }[]
      failed: number
      whole: boolean
    }
    const words = ['chaos', 'run', '--seed', '5', '--for', '8s', '--faults', 'kill,freeze,flush', '--pairs']
    const { schedule } = await rung<Run>(...words, '--plan')
    const run = await rung<Run>(...words)
    assert.deepEqual(run.schedule, schedule)
    assert.deepEqual({ failed: run.failed, whole: run.whole }, { failed: 0, whole: true }, JSON.stringify(run.rounds))
    assert.ok(run.rounds.length > 0 && run.rounds.every(({ faults }) => faults.length === 2))
  })

  it('changes the fleet during a fault', async () => {
    const one = await hold('freeze', 'worker-1')
    assert.equal((await chaos('scale', 'balancer', '--for', '1ms')).parts[0]!.did, '3 web processes instead of 2')
    await one.stop('SIGINT')
    assert.equal((await rows()).filter(({ name }) => name.startsWith('web-')).length, 2)
  })

  it('takes a zone away', async () => {
    const inB = (await rows()).filter(({ zone }) => zone === 'b')
    const { parts, wholeAfterMs } = await chaos('stop', 'zone', 'b', '--for', '1s')
    assert.deepEqual(parts.map(({ part }) => part).sort(), inB.map(({ name }) => name).sort())
    assert.ok(wholeAfterMs !== null)
    for (const { name, pid } of inB) assert.notEqual((await row(name)).pid, pid)
    assert.equal((await fetch(`${facts.url}/entries`)).status, 200)
  })

  it('refuses what does not fit', async () => {
    assert.equal((await chaos('disk-full', 'primary')).error?.code, 'CHAOS_REFUSED')
    for (const words of [
      ['kill', 'nobody'],
      ['kill'],
      ['kill', 'zone', 'x'],
      ['dance', 'web-1'],
      ['kill', 'web-1', '--for', '1s'],
      ['latency', 'redis', '--with', '80'],
    ]) {
      assert.equal((await chaos(...words)).error?.code, 'COMMAND_INVALID', words.join(' '))
    }
  })
})

it('fills a small disk, and empties it again', (t) =>
  withSmallDisk(t, 600, (dataDir) =>
    withScratch(async ({ dir, launch }) => {
      const up = launch({ up: '1k', dataDir, env: { NODE_ENV: 'development' } })
      const facts = await up.started
      const one = launchRung({ command: ['chaos', 'disk-full', 'primary', '--for', '10m'], dataDir, cwd: dir })
      await one.saw(/^disk-full postgres: /m)
      assert.throws(() => writeFileSync(`${dataDir}/more`, Buffer.alloc(8_192)), { code: 'ENOSPC' })
      assert.equal((await fetch(`${facts.url}/entries`)).status, 200)
      assert.equal((await one.stop('SIGINT')).code, 0)
      writeFileSync(`${dataDir}/more`, Buffer.alloc(1024 ** 2))
      await up.stop()
    }),
  ))

it('refuses a fleet in production', () =>
  withScratch(async ({ dataDir, dir, launch }) => {
    await launch({ up: '1k' }).started
    const { exited, stderr, stdout } = launchRung({ command: ['chaos', 'kill', 'app-1'], dataDir, cwd: dir })
    assert.equal((await exited).code, 1)
    assert.match(stderr() + stdout(), /CHAOS_REFUSED/)
  }))
