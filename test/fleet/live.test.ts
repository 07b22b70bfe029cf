import assert from 'node:assert/strict'
import { mkdir, rm, stat, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { after, before, describe, it } from 'node:test'
import { noHaproxy } from '../support/haproxy.ts'
import { idsIn, underLoad as loaded, write } from '../support/ledger.ts'
import { noNginx } from '../support/nginx.ts'
import { noPooler } from '../support/pgbouncer.ts'
import {
  ended,
  type Facts,
  type Launched,
  launchRung,
  openScratch,
  processesOn,
  type Scratch,
  sameExit,
  until,
} from '../support/process.ts'
import { noRedis } from '../support/redis.ts'

const skip = noRedis || noNginx || noHaproxy || noPooler

interface PartNow {
  name: string
  state: string
  pid: number
  restarts: number
}

describe('a running fleet', { skip }, () => {
  let scratch: Scratch & { end(): Promise<void> }
  let up: Launched
  let facts: Facts
  before(async () => {
    scratch = await openScratch()
    up = scratch.launch({ up: '100k', args: ['--web', '2', '--replicas', '0'] })
    facts = await up.started
    await write(facts, 'first')
  })
  after(() => scratch?.end())

  const launch = (...command: string[]) =>
    launchRung({ command: [...command, '--json'], dataDir: scratch.dataDir, cwd: scratch.dir })

  async function rung<T>(...command: string[]): Promise<T> {
    const { exited, stdout, stderr } = launch(...command)
    sameExit(await exited, 0)
    return JSON.parse(stdout() || stderr()) as T
  }
  async function refused(...command: string[]): Promise<{ code: string; message: string }> {
    const { exited, stdout } = launch(...command)
    sameExit(await exited, 1)
    return (JSON.parse(stdout()) as { error: { code: string; message: string } }).error
  }
  async function parts(): Promise<PartNow[]> {
    return (await rung<{ parts: PartNow[] }>('ps', '--brief')).parts
  }
  const names = async (pattern: RegExp) => (await parts()).map(({ name }) => name).filter((name) => pattern.test(name))

  const underLoad = (body: () => Promise<unknown>) => loaded(facts, body)
  const nothingFailed = { writes: [], reads: [] }

  /** What people see, in 80 columns, of a fleet with replicas under load. */
  async function shown(): Promise<void> {
    const { exited, stdout } = launchRung({ command: ['ps'], dataDir: scratch.dataDir, cwd: scratch.dir })
    sameExit(await exited, 0)
    const lines = stdout().split('\n')
    for (const line of lines) assert.ok(line.length <= 80, line)
    assert.match(lines[1]!, /^part +state +role +process +restarts +since +load +req\/s +lag$/)
    assert.match(stdout(), /^postgres +running +primary +\d+ +\d+ .* \d+%$/m)
    assert.match(stdout(), /^postgres-2 +running +replica +\d+ +\d+ .* \d+% +\d+ (ms|s)$/m)
    const now = await rung<{ parts: { name: string; load?: number; requestsPerSecond?: number }[] }>('ps')
    const of = (pattern: RegExp) => now.parts.filter(({ name }) => pattern.test(name))
    assert.ok(of(/./).every(({ load }) => load! >= 0))
    assert.ok(of(/web/).some(({ requestsPerSecond }) => requestsPerSecond! > 0))
    assert.ok(of(/redis|worker|edge/).every(({ requestsPerSecond }) => requestsPerSecond === undefined))
  }

  it('gets more web processes and fewer, and no request fails', async () => {
    const outcome = await underLoad(async () => {
      assert.deepEqual(await rung('scale', 'web=4'), {
        before: { web: 2, worker: 1, replicas: 0 },
        now: { web: 4, worker: 1, replicas: 0 },
      })
      assert.deepEqual(await names(/web|worker/), ['web-1', 'web-2', 'web-3', 'web-4', 'worker-1'])
      await rung('scale', 'web=1', 'worker=2')
      assert.deepEqual(await names(/web|worker/), ['web-1', 'worker-1', 'worker-2'])
      await rung('scale', 'web=2', 'worker=1')
    })
    assert.deepEqual(outcome, nothingFailed)
  })

  it('keeps its present processes when the balancer is killed', async () => {
    await rung('scale', 'web=3')
    await rung('kill', 'balancer', '--yes')
    await until(async () => (await parts()).every(({ state }) => state === 'running'), 'it runs again')
    assert.deepEqual(await underLoad(() => rung('scale', 'web=2')), nothingFailed)
    assert.deepEqual(await names(/web/), ['web-1', 'web-2'])
  })

  it('restarts its web processes one after the other, and no request fails', async () => {
    const pids = async () => (await parts()).filter(({ name }) => /^web/.test(name)).map(({ pid }) => pid)
    const old = await pids()
    const outcome = await underLoad(async () => {
      assert.deepEqual(await rung('restart', 'web'), { restarted: ['web-1', 'web-2'] })
      await rung('scale', 'web=1')
      await rung('restart', 'web')
      await rung('scale', 'web=2')
    })
    assert.deepEqual(outcome, nothingFailed)
    assert.deepEqual(
      (await pids()).filter((pid) => old.includes(pid)),
      [],
    )
  })

  /** While `body` runs, a request is in hand. It may end it before. */
  async function withRequestInHand(
    body: (request: { held: Promise<Response>; end(): Promise<void> }) => Promise<void>,
  ) {
    const lock = await scratch.connect()
    const end = () => lock.end().catch(() => {}) // the server may have ended
    try {
      await lock.query('select pg_advisory_lock(7)')
      const held = fetch(`${facts.url}/held/7`)
      held.catch(() => {}) // the fleet may be killed meanwhile
      const waiting = `select 1 from pg_locks where locktype = 'advisory' and objid = 7 and not granted`
      await until(async () => (await lock.query(waiting)).rowCount, 'the request waits')
      await body({ held, end })
    } finally {
      await end()
    }
  }

  it('waits for the request in hand', () =>
    withRequestInHand(async ({ held, end }) => {
      const restart = launch('restart', 'web')
      await restart.saw(/web-\d drains, 1 request left/)
      const busy = await refused('scale', 'web=3')
      assert.deepEqual(
        [busy.code, busy.message],
        ['FLEET_BUSY', 'Another change of this fleet is in progress. Wait until it is done.'],
      )
      await end()
      assert.equal((await held).status, 200)
      sameExit(await restart.exited, 0)
    }))

  it('survives the kill of a web process: no read fails, no write is done twice', async () => {
    const { writes, reads } = await underLoad(async () => {
      const [before] = (await parts()).filter(({ name }) => name === 'web-1')
      await rung('kill', 'web-1', '--yes')
      await until(async () => {
        const web = (await parts()).find(({ name }) => name === 'web-1')
        return web?.state === 'running' && web.restarts > before!.restarts
      }, 'it runs again')
    })
    assert.deepEqual(reads, [])
    // A write that was done twice would be a conflict of its key.
    for (const outcome of writes) assert.match(outcome, /^502 HTTP_OUTCOME_UNKNOWN$|^503 /)
  })

  it('gets replicas and loses them, and no request fails', async () => {
    const outcome = await underLoad(async () => {
      await rung('scale', 'replicas=1')
      await rung('scale', 'replicas=2')
      assert.deepEqual(await names(/postgres/), ['postgres-2', 'postgres-3', 'postgres'])
      await shown()
      await rung('scale', 'replicas=0')
    })
    assert.deepEqual(outcome, nothingFailed)
    assert.deepEqual(await names(/postgres/), ['postgres'])
    await assert.rejects(stat(path.join(scratch.dataDir, 'postgres-2')), { code: 'ENOENT' })
    const client = await scratch.connect()
    assert.equal((await client.query('select 1 from pg_replication_slots')).rowCount, 0)
  })

  it('refuses what it cannot do, in one sentence', async () => {
    const cases: [command: string[], says: RegExp][] = [
      [['scale', 'web=40'], /^This may need \d+ connections, and Postgres was started with \d+\./],
      [['scale', 'web=0'], /^web must be a whole number from 1 to 64, or two of them: 2\.\.8\.$/],
      [['scale', 'wbe=2'], /^"wbe" cannot be scaled; these can: web, worker, replicas\.$/],
      [['scale', 'web=two'], /^"web=two" is not a number of parts\./],
      [['restart', 'nobody'], /^There is no part "nobody"\. There are edge, balancer, web-1, /],
      [['kill', 'web-1'], /^This fleet runs in production mode \(NODE_ENV\)\. .*rung kill web-1 --yes$/],
    ]
    for (const [command, says] of cases) {
      const { code, message } = await refused(...command)
      assert.equal(code, 'COMMAND_INVALID')
      assert.match(message, says)
    }
  })

  it('is as before when a new part does not start', async () => {
    const folder = path.join(scratch.dataDir, 'postgres-2')
    await mkdir(path.join(folder, 'data'), { recursive: true })
    await writeFile(path.join(folder, 'data', 'PG_VERSION'), '18\n') // as of a replica that was promoted
    const before = await parts()
    const { code, message } = await refused('scale', 'web=3', 'replicas=1')
    assert.equal(code, 'ENGINE_START_FAILED')
    assert.match(
      message,
      /^Nothing was changed, because a part did not start.*\/postgres-2\/data is the data of a primary/,
    )
    assert.deepEqual(
      (await parts()).map(({ name, pid, restarts }) => ({ name, pid, restarts })),
      before.map(({ name, pid, restarts }) => ({ name, pid, restarts })),
    )
    await rm(folder, { recursive: true })
    assert.deepEqual(await underLoad(() => rung('scale', 'web=3')), nothingFailed)
    await rung('scale', 'web=2')
  })

  it('leaves nothing when its supervisor is killed in the middle of a change; the next one can be changed', async () => {
    const pids = (await parts()).map(({ pid }) => pid)
    await withRequestInHand(async () => {
      const restart = launch('restart', 'web')
      await restart.saw(/web-\d drains, 1 request left/)
      await up.kill()
      sameExit(await restart.exited, 1)
    })
    for (const pid of pids) await ended(pid)
    await until(async () => (await processesOn(scratch.dataDir)).length === 0, 'nothing runs on the folder')
    assert.equal((await refused('scale', 'web=3')).code, 'FLEET_NOT_RUNNING')
    up = scratch.launch({ up: '100k', args: ['--web', '1', '--replicas', '0'] })
    facts = await up.started
    await rung('scale', 'web=2')
    assert.ok((await idsIn(facts)).includes('first'))
    await withRequestInHand(async ({ end }) => {
      const again = launch('restart', 'web')
      await again.saw(/web-\d drains, 1 request left/)
      const stopped = up.stop()
      await up.saw(/finishing requests and jobs/)
      await end()
      sameExit(await stopped, 0)
      sameExit(await again.exited, 1)
      assert.match(again.stdout(), /FLEET_NOT_RUNNING/)
    })
    await until(async () => (await processesOn(scratch.dataDir)).length === 0, 'nothing runs on the folder')
    await assert.rejects(stat(path.join(scratch.dataDir, 'fleet/control')), { code: 'ENOENT' })
  })
})
