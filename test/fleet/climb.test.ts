import assert from 'node:assert/strict'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { rename, rm, writeFile } from 'node:fs/promises'
import { createConnection, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { after, before, describe, it } from 'node:test'
import { dirFor } from '../../src/fleet/placement.ts'
import type { Deploy } from '../../src/runtime/deploys.ts'
import { ledgerProject, type Project } from '../support/deploys.ts'
import { noHaproxy } from '../support/haproxy.ts'
import { type At, idsIn, underLoad as loaded, post, write } from '../support/ledger.ts'
import { noNginx } from '../support/nginx.ts'
import { noPooler } from '../support/pgbouncer.ts'
import { PositionJar } from '../support/position-jar.ts'
import {
  type Facts,
  type Launched,
  launchRung,
  openScratch,
  type Scratch,
  sameExit,
  until,
} from '../support/process.ts'
import { noRedis } from '../support/redis.ts'

const skip = noRedis || noNginx || noHaproxy || noPooler

const guard = "import { Type } from 'typebox'"

interface Climbed {
  from: string
  to: string
  outcome: string
  reason: string | null
  added: string[]
  removed: string[]
  restarted: string[]
  checks: { name: string; state: string }[]
}

const nothingFailed = { writes: [], reads: [], own: [] }
let count = 0

/** The load of the ledger, and sessions that write and read at once what they have written. */
async function underLoad(at: At, body: () => Promise<unknown>) {
  const own: string[] = []
  let over = false
  async function session(): Promise<void> {
    const jar = new PositionJar()
    count += 1
    const name = `s${count}`
    // A connection for each request, so that both processes answer a session while both are at the port. A kept one that is used now and then
    // may end just when it is used again, as at any HTTP server.
    const alone = () => ({
      header: { ...jar.header, connection: 'close' },
      note: (headers: Headers) => jar.note(headers),
    })
    const ask = async (path: string) =>
      fetch(`${at.url}${path}`, { headers: alone().header }).then(
        async (answer) => {
          jar.note(answer.headers)
          return { status: answer.status, text: await answer.text() }
        },
        (error: Error) => ({ status: 0, text: error.message }),
      )
    for (let written = 0; !over; ) {
      const id = `${name}-${written}`
      const outcome = await post(at, id, alone())
      if (outcome !== '201') {
        own.push(`write: ${outcome}`)
        return session() // what became of it is not known
      }
      written += 1
      const read = await ask(`/entries/${id}`)
      if (read.status !== 200) own.push(`read of ${id}: ${read.status} ${read.text}`)
      const counted = await ask(`/counted/${name}`)
      if (counted.text !== String(written)) own.push(`${written} written, counted: ${counted.status} ${counted.text}`)
    }
  }
  const sessions = Promise.all([session(), session()])
  try {
    const others = await loaded(at, body)
    over = true
    await sessions
    return { ...others, own }
  } finally {
    over = true
    await sessions
  }
}

/** A signed-in user, and a write with a key. */
const more = {
  '  routes(http, { data }) {': `  routes(http, { data, sessions, cache }) {
    http.get('/counted/:name', { schema: { params: Type.Object({ name: Type.String() }) } }, (request) =>
      cache.get(\`counted \${request.params.name}\`, { ttl: '1h', tags: [request.params.name] }, async () => {
        const [row] = await data.read((sql) => sql\`select count(*)::int as n from ledger.entry where id like \${request.params.name + '-%'}\`)
        return row.n
      }),
    )
    http.post('/sign-in', async (request, reply) => {
      await sessions.signIn(request, reply, { id: 'anna' })
      return {}
    })
    http.get('/me', async (request) => ({ me: (await sessions.of(request))?.principal ?? null }))
    let payments = 0 // rung: one process is enough, because only an answer that is not recorded shows it
    http.post('/payments', { config: { idempotency: 'required' } }, async () => {
      payments += 1
      return { payment: \`\${process.pid}-\${payments}\` }
    })`,
  'await tx`insert into ledger.receipt (entry_id) values (${id})`': `await tx\`insert into ledger.receipt (entry_id) values (\${id})\`; tx.invalidate([id.split('-')[0]])`,
  'modules: [ledger] }': 'modules: [ledger], sessions: {} }',
}

async function signIn({ url }: At): Promise<string> {
  const answer = await fetch(`${url}/sign-in`, { method: 'POST', headers: { origin: url } })
  assert.equal(answer.status, 200)
  return answer.headers
    .getSetCookie()
    .map((text) => text.split(';')[0])
    .join('; ')
}

async function seenBy({ url }: At, cookie: string): Promise<{ me: string; payment: string }> {
  const me = (await (await fetch(`${url}/me`, { headers: { cookie } })).json()) as { me: string }
  const paid = await fetch(`${url}/payments`, {
    method: 'POST',
    headers: { cookie, origin: url, 'idempotency-key': 'one-payment' },
  })
  return { ...me, ...((await paid.json()) as { payment: string }) }
}

/** Stands in front of a fleet's door, and lets the second client that comes in only after `act`. */
async function betweenRequests(dataDir: string, act: () => Promise<unknown>): Promise<{ close(): Promise<void> }> {
  const name = 'control.sock'
  const socket = path.join(dirFor({ dataDir, tmpDir: tmpdir() }, 'control', name), name)
  const behind = `${socket}.own`
  await rename(socket, behind)
  let clients = 0
  const server = createServer({ allowHalfOpen: true }, async (client) => {
    clients += 1
    if (clients === 2) await act()
    const fleet = createConnection({ path: behind, allowHalfOpen: true })
    client.on('error', () => {}).pipe(fleet)
    fleet.on('error', () => client.destroy()).pipe(client)
  }).listen(socket)
  await once(server, 'listening')
  return {
    async close() {
      server.close()
      await once(server, 'close') // removes its socket
      await rename(behind, socket)
    },
  }
}

describe('rung climb', { skip }, () => {
  let scratch: Scratch & { end(): Promise<void> }
  let project: Project
  let up: Launched
  let facts: Facts
  before(async () => {
    scratch = await openScratch()
    project = await ledgerProject(path.join(scratch.dir, 'ledger'))
    const broken = JSON.stringify(path.join(scratch.dir, 'broken'))
    await project.write('1', {
      ...more,
      [guard]: `${guard}
import { existsSync } from 'node:fs'
if (process.env.RUNG_TOPOLOGY === '100k' && process.env.RUNG_ROLE === 'worker' && existsSync(${broken})) throw new Error('no worker here')`,
    })
    up = scratch.launch({ up: '1k', app: project.app })
    facts = await up.started
    await write(facts, 'first')
  })
  after(() => scratch?.end())

  const launch = (...command: string[]) =>
    launchRung({ command: [...command, '--json'], dataDir: scratch.dataDir, cwd: scratch.dir })
  async function rung<T>(code: number, ...command: string[]): Promise<T> {
    const { exited, stdout } = launch(...command)
    sameExit(await exited, code)
    return JSON.parse(stdout()) as T
  }
  const command = ['climb', '--watch', '0s', '--accept', 'backup,memory']
  const climb = (...args: string[]) => rung<Climbed>(0, ...command, ...args)
  async function now(): Promise<{ rung: string; names: string[] }> {
    const { rung: at, parts } = await rung<{ rung: string; parts: { name: string; state: string }[] }>(
      0,
      'ps',
      '--brief',
    )
    assert.deepEqual([...new Set(parts.map(({ state }) => state))], ['running'])
    return { rung: at, names: parts.map(({ name }) => name).sort() }
  }

  /** The last ones of `rung deploys`. */
  const recorded = (count: number) => rung<Deploy[]>(0, 'deploys', '--last', String(count))
  const states = async () =>
    (await rung<{ parts: { state: string }[] }>(0, 'ps', '--brief')).parts.map(({ state }) => state)
  async function upAgain() {
    up = scratch.launch({ command: ['up', project.app, '--port', '0', '--json'] })
    facts = await up.started
  }

  it('plans the step and checks it first, and changes nothing', async () => {
    const before = await now()
    const plan = await climb('100k', '--dry-run')
    assert.deepEqual([plan.from, plan.to, plan.outcome], ['1k', '100k', 'planned'])
    assert.deepEqual(plan.added.toSorted(), [
      ...['balancer', 'edge', 'pooler', 'postgres-2', 'postgres-3'],
      ...['redis', 'web-1', 'web-2', 'web-3', 'worker-1'],
    ])
    assert.deepEqual([plan.restarted, plan.removed], [[], ['app-1']])
    assert.deepEqual(await now(), before)
  })

  it('climbs from 1k over 10k to 100k and back, and no request fails', async () => {
    const before = await now()
    const cookie = await signIn(facts)
    const seen = await seenBy(facts, cookie)
    assert.equal(seen.me, 'anna')
    const outcome = await underLoad(facts, async () => {
      for (const [args, to] of [
        [[], '10k'],
        [[], '100k'],
        [['--undo'], '10k'],
        [['--undo'], '1k'],
      ] as const) {
        const done = await climb(...args)
        assert.deepEqual([done.outcome, done.to, done.reason], ['done', to, null])
        assert.equal((await now()).rung, to)
        assert.deepEqual(await seenBy(facts, cookie), seen, 'the session and the recorded answer')
      }
    })
    assert.deepEqual(outcome, nothingFailed)
    assert.deepEqual(await now(), before)
    assert.ok(!existsSync(path.join(scratch.dataDir, 'climbed.json')))
    const climbs = await recorded(4)
    assert.deepEqual(
      climbs.map(({ fromRung, rung, outcome, reason }) => [fromRung, rung, outcome, reason]),
      [
        ['10k', '1k', 'done', null],
        ['100k', '10k', 'done', null],
        ['10k', '100k', 'done', null],
        ['1k', '10k', 'done', null],
      ],
    )
    assert.ok(climbs.every(({ startedBy, previous, build }) => startedBy === 'rung climb' && previous === build))
  })

  it('goes back by itself where a worker does not start at the next rung', async () => {
    await climb('10k')
    const before = await now()
    await writeFile(path.join(scratch.dir, 'broken'), '')
    const outcome = await underLoad(facts, async () => {
      const back = await rung<Climbed>(1, ...command)
      assert.equal(back.outcome, 'taken back')
      assert.match(back.reason!, /no worker here/)
    })
    assert.deepEqual(outcome, nothingFailed)
    assert.deepEqual(await now(), before)
    const [last] = await recorded(1)
    assert.deepEqual([last!.fromRung, last!.rung, last!.outcome], ['10k', '100k', 'rolled back'])
    assert.match(last!.reason!, /no worker here/)
    await rm(path.join(scratch.dir, 'broken'))
    await climb('1k')
  })

  it('refuses what is not possible, and says why', async () => {
    const refused = async (...args: string[]) =>
      (await rung<{ error: { code: string; message: string } }>(1, 'climb', ...args)).error
    assert.match((await refused('--undo')).message, /^Nothing is to be undone/)
    assert.equal((await refused('10k', '--watch', '0s')).code, 'CLIMB_REFUSED') // there is no backup
    assert.match((await refused('10k', '--accept', 'everything')).message, /^"everything" is not a check/)
    assert.match((await refused('7k')).message, /is not a rung/)
    const same = await rung<Climbed>(0, 'climb', '1k')
    assert.equal(same.outcome, 'unchanged')
  })

  it('does only what was checked: another command may have climbed since', async () => {
    const { rung: from } = await now()
    assert.equal(from, '1k')
    const door = await betweenRequests(scratch.dataDir, () => climb('10k'))
    const { error } = await rung<{ error: { code: string; message: string } }>(1, ...command).finally(door.close)
    assert.equal(error.code, 'CLIMB_REFUSED')
    assert.match(error.message, /^This climb was checked from rung 1k, and the fleet runs at 10k by now\./)
    assert.equal((await now()).rung, '10k')
  })

  it('goes on where it has climbed to after a stop, and says so', async () => {
    await climb('10k')
    sameExit(await up.stop(), 0)
    await upAgain()
    await up.saw(/Goes on at rung 10k, to which "rung climb" has brought this fleet\./)
    assert.equal((await now()).rung, '10k')
  })

  it('is well after parts were killed in the middle, and can climb', async () => {
    const { own } = await underLoad(facts, async () => {
      const climbing = launch(...command)
      for (const [note, part] of [
        ['pooler runs', 'web-1'],
        ['web-1 answers', 'edge'],
      ] as const) {
        await climbing.saw(new RegExp(note))
        await rung(0, 'kill', part, '--yes')
      }
      const { code } = await climbing.exited
      await until(async () => (await states()).every((state) => state === 'running'), 'all parts run')
      assert.equal((await now()).rung, code === 0 ? '100k' : '10k')
      if (code !== 0) await climb()
    })
    // Requests in a killed process have no answer, or an unknown outcome; whatever has one was told the truth.
    assert.deepEqual(
      own.filter((failure) => / 404 |counted: 200/.test(failure)),
      [],
    )
    await climb('--undo')
    assert.equal((await now()).rung, '10k')
  })

  it('is at the rung before after its supervisor was killed in the middle, and can climb again', async () => {
    const before = await idsIn(facts)
    const climbing = launch(...command)
    await climbing.saw(/web-1 answers/)
    await up.kill()
    sameExit(await climbing.exited, 1)
    await upAgain()
    assert.equal((await now()).rung, '10k')
    assert.deepEqual(await idsIn(facts), before)
    await climb()
    assert.equal((await now()).rung, '100k')
    assert.deepEqual(await idsIn(facts), before)
  })
})
