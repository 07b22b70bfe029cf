import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { Agent, type IncomingMessage, request } from 'node:http'
import path from 'node:path'
import { after, before, describe, it } from 'node:test'
import { ledgerProject } from '../support/deploys.ts'
import { type At, idsIn } from '../support/ledger.ts'
import { noNginx } from '../support/nginx.ts'
import {
  type Facts,
  isRunning,
  type Launched,
  launchRung,
  openScratch,
  type Scratch,
  sameExit,
  until,
} from '../support/process.ts'
import { noRedis } from '../support/redis.ts'

/** A request of which the test sends the body in parts. */
function posting({ url }: At, target: string, agent?: Agent) {
  const { promise: answered, resolve, reject } = Promise.withResolvers<IncomingMessage>()
  const headers = { 'content-type': 'application/json', expect: '100-continue' }
  const sent = request(new URL(target, url), { method: 'POST', headers, agent: agent ?? false }, resolve)
  sent.once('error', reject)
  /** The server has read the headers. */
  const begun = new Promise<void>((begin) => sent.once('continue', begin))
  sent.flushHeaders()
  const outcome = answered.then(
    async (answer) => {
      let text = ''
      for await (const chunk of answer) text += chunk
      return answer.statusCode === 201 ? '201' : `${answer.statusCode} ${text}`
    },
    (error: Error) => `no answer: ${error.message}`,
  )
  return { sent, begun, outcome }
}

/** A connection that stays open after its first request. */
async function idleConnection(at: At): Promise<{ closed: Promise<void> }> {
  const agent = new Agent({ keepAlive: true })
  const { promise: closed, resolve } = Promise.withResolvers<void>()
  const { sent, begun, outcome } = posting(at, '/kept', agent)
  sent.once('socket', (socket) => socket.once('close', () => resolve()))
  await begun
  sent.end('{}')
  assert.equal(await outcome, '201')
  return { closed }
}

describe('a request that takes long', { skip: noRedis || noNginx }, () => {
  let scratch: Scratch & { end(): Promise<void> }
  let up: Launched
  let facts: Facts
  before(async () => {
    scratch = await openScratch()
    const project = await ledgerProject(path.join(scratch.dir, 'ledger'))
    await project.write('1', {
      "import { Type } from 'typebox'": `import { Type } from 'typebox'
import { existsSync, writeFileSync } from 'node:fs'
import { setTimeout as wait } from 'node:timers/promises'`,
      "import { defineApp, defineModule } from 'rung'": "import { defineApp, defineModule, warm } from 'rung'",
      // To warm the cache makes the app ready before it listens.
      '  routes(http, { data }) {': `  warm: () => [warm('nothing', ['1'], () => {})],
  routes(http, { data }) {
    http.post('/kept', async (_request, reply) => reply.status(201).send({}))
    /** Uses the database after the test has created a file. */
    http.post('/slow', { schema: { body: Id } }, async (request, reply) => {
      const { id } = request.body
      const file = ${JSON.stringify(`${scratch.dir}/`)} + id
      writeFileSync(file + '-begun', '')
      while (!existsSync(file + '-go')) await wait(10)
      await data.write(async (tx) => {
        await tx\`insert into ledger.entry (id, body) values (\${id}, '')\`
        await tx\`insert into ledger.receipt (entry_id) values (\${id})\`
      })
      return reply.status(201).send({ id })
    })`,
      'modules: [ledger] }': "modules: [ledger], http: { requestTimeout: '10m' } }",
    })
    up = scratch.launch({ up: '1k', app: project.app })
    facts = await up.started
  })
  after(() => scratch?.end())

  const rung = (...command: string[]) =>
    launchRung({ command: [...command, '--json'], dataDir: scratch.dataDir, cwd: scratch.dir })
  async function pidOf(name: string): Promise<number> {
    const one = rung('ps', '--brief')
    sameExit(await one.exited, 0)
    const { parts } = JSON.parse(one.stdout()) as { parts: { name: string; pid: number }[] }
    return parts.find((part) => part.name === name)!.pid
  }

  /** While a request and an upload are under way, a command ends the part that has their connections. */
  async function outlasts(id: string, part: string, ...command: string[]): Promise<void> {
    const pid = await pidOf(part)
    assert.ok(isRunning(pid))
    const idle = await idleConnection(facts)
    const slow = posting(facts, '/slow')
    await slow.begun
    slow.sent.end(JSON.stringify({ id }))
    const file = path.join(scratch.dir, id)
    await until(() => existsSync(`${file}-begun`), 'the request is in its handler')
    const upload = posting(facts, '/entries')
    await upload.begun
    upload.sent.write(`{"id":"${id}-upload",`)
    const acting = rung(...command)
    await idle.closed // the part has left, but for what is in progress
    await rung('ps', '--brief').exited // work during which it would end
    assert.ok(isRunning(pid), `${part} waits`)
    await writeFile(`${file}-go`, '')
    upload.sent.end('"body":"late"}')
    assert.deepEqual([await slow.outcome, await upload.outcome], ['201', '201'])
    sameExit(await acting.exited, 0)
    assert.ok(!isRunning(pid), `${part} has ended`)
  }

  it('is answered by a process that is restarted', () => outlasts('restart', 'app-1', 'restart', 'app-1'))

  const climb = ['climb', '--watch', '0s', '--accept', 'backup,memory']
  it('is answered by a process that a climb removes', () => outlasts('up', 'app-1', ...climb, '10k'))
  it('is answered through nginx when the fleet goes down', () => outlasts('down', 'edge', ...climb, '1k'))

  it('is answered when the fleet stops', async () => {
    const ids = await idsIn(facts)
    assert.deepEqual(ids, ['down', 'down-upload', 'restart', 'restart-upload', 'up', 'up-upload'])
    await outlasts('stop', 'app-1', 'stop')
    sameExit(await up.exited, 0)
  })
})
