import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import path from 'node:path'
import { after, before, describe, it } from 'node:test'
import { noHaproxy } from '../support/haproxy.ts'
import { type At, underLoad as loaded, post, write } from '../support/ledger.ts'
import { noNginx } from '../support/nginx.ts'
import { noPooler } from '../support/pgbouncer.ts'
import { PositionJar } from '../support/position-jar.ts'
import { type Facts, type Launched, launchRung, openScratch, type Scratch, sameExit } from '../support/process.ts'
import { noRedis } from '../support/redis.ts'

const skip = noRedis || noNginx || noHaproxy || noPooler

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
  async function session() {
    const jar = new PositionJar()
    while (!over) {
      count += 1
      const id = `s${count}`
      const outcome = await post(at, id, jar)
      if (outcome !== '201') own.push(`write: ${outcome}`)
      const read = await fetch(`${at.url}/entries/${id}`, { headers: jar.header }).then(
        async (answer) => {
          jar.note(answer.headers)
          await answer.text()
          return answer.status
        },
        (error: Error) => error.message,
      )
      if (outcome === '201' && read !== 200) own.push(`read of ${id}: ${read}`)
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

describe('rung climb', { skip }, () => {
  let scratch: Scratch & { end(): Promise<void> }
  let up: Launched
  let facts: Facts
  before(async () => {
    scratch = await openScratch()
    up = scratch.launch({ up: '1k' })
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
  const climb = (...args: string[]) => rung<Climbed>(0, 'climb', '--watch', '1s', '--accept', 'backup,memory', ...args)
  async function now(): Promise<{ rung: string; names: string[] }> {
    const { rung: at, parts } = await rung<{ rung: string; parts: { name: string; state: string }[] }>(
      0,
      'ps',
      '--brief',
    )
    assert.deepEqual([...new Set(parts.map(({ state }) => state))], ['running'])
    return { rung: at, names: parts.map(({ name }) => name).sort() }
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
      }
    })
    assert.deepEqual(outcome, nothingFailed)
    assert.deepEqual(await now(), before)
    assert.ok(!existsSync(path.join(scratch.dataDir, 'climbed.json')))
  })
})
