import assert from 'node:assert/strict'
import path from 'node:path'
import { test } from 'node:test'
import type { TraceRow } from '../../src/observe/traces/list.ts'
import type { Waterfall } from '../../src/observe/traces/waterfall.ts'
import { ledgerProject } from '../support/deploys.ts'
import { type Scratch, until, withScratch } from '../support/process.ts'

/** A route that reads through the cache, writes, and enqueues a job; one that fails; and what must be in no trace. */
const changes = {
  "import { defineApp, defineModule } from 'rung'": `import { defineApp, defineJob, defineModule, handle } from 'rung'
const tidy = defineJob('ledger.tidy', Type.Object({ id: Type.String() }))`,
  '  routes(http, { data }) {': `  work: ({ data }) => [
    handle(tidy, async ({ id }) => {
      await data.read((sql) => sql\`select body from ledger.entry where id = \${id}\`)
    }),
  ],
  routes(http, { data, jobs, cache }) {
    http.get('/broken/:id', { schema: { params: Id } }, async () => { throw new Error('secret-message') })
    http.post('/tidy/:id', { schema: { params: Id } }, async ({ params: { id } }) => {
      const count = () => cache.get('count:secret-key', { ttl: '1h' }, () =>
        data.read((sql) => sql\`select count(*)::int as n from ledger.entry\`))
      await count()
      await count()
      await count()
      return data.write(async (tx) => {
        await tx\`insert into ledger.entry (id, body) values (\${id}, 'x')\`
        await tx.enqueue(tidy, { id })
        return {}
      })
    })`,
}

async function traces({ launch, dir }: Scratch, ...args: string[]) {
  const command = launch({ command: ['traces', ...args, '--json'], cwd: dir })
  const { code } = await command.exited
  return { code, view: JSON.parse(command.stdout()) }
}

async function text({ launch, dir }: Scratch, ...args: string[]): Promise<string> {
  const command = launch({ command: ['traces', ...args], cwd: dir })
  assert.equal((await command.exited).code, 0, command.stderr())
  return command.stdout()
}

test('rung traces shows what a request did: statements, cache, and the job that came of it, without values', () =>
  withScratch(async (scratch) => {
    assert.equal((await traces(scratch)).view.error.code, 'FLEET_NOT_RUNNING')
    const project = await ledgerProject(path.join(scratch.dir, 'ledger'))
    await project.write('1', changes)
    const { url, pid } = await scratch.start({ app: project.app })
    await fetch(`${url}/broken/secret-id`)
    const first = await text(scratch)
    assert.match(first, /GET \/broken\/:id .*500/, 'what fails is kept, also while nobody looks')
    assert.match(first, /All are kept since \d\d:\d\d:\d\d UTC/)
    assert.match(await text(scratch), /All are kept since/, 'an older one is still shown')
    const answer = await fetch(`${url}/tidy/secret-id?token=secret-query`, { method: 'POST' })
    assert.equal(answer.status, 200)
    const id = answer.headers.get('traceparent')!.split('-')[1]!
    const job = (view: Waterfall) => view.units?.find(({ kind }) => kind === 'job')
    const view: Waterfall = await until(async () => {
      const { view } = await traces(scratch, id)
      return job(view) && view
    }, 'the job has run')
    const [request] = view.units
    assert.equal(view.id, id)
    assert.deepEqual(
      [request!.name, request!.outcome, request!.module, request!.process],
      ['POST /tidy/:id', '200', 'ledger', 'app'],
    )
    assert.deepEqual([request!.cacheReads, request!.cacheHits], [3, 2])
    const cache = request!.steps.filter(({ kind }) => kind === 'cache')
    assert.deepEqual(
      cache.map(({ name, outcome, count }) => [name, outcome, count]),
      [
        ['ledger/count', 'loaded', 1],
        ['ledger/count', 'memory', 2],
      ],
    )
    const loaded = request!.steps.find(({ inLoad }) => inLoad)!
    assert.match(loaded.text!, /^select count\(\*\)::int as n from ledger\.entry$/)
    const insert = request!.steps.find(({ text }) => text?.startsWith('insert into ledger.entry'))!
    assert.match(insert.text!, /values \(\$1, 'x'\)/)
    const run = job(view)!
    assert.deepEqual([run.name, run.outcome, run.parentId], ['ledger.tidy', 'done', request!.spanId])
    assert.ok(run.steps.some(({ text }) => text === 'select body from ledger.entry where id = $1'))
    for (const { from, share } of [...view.units, ...view.units.flatMap(({ steps }) => steps)])
      assert.ok(from >= 0 && share >= 0 && from + share <= 1.000_001, `${from} ${share}`)
    assert.doesNotMatch(JSON.stringify(view), /secret/)

    const drawn = await text(scratch, id.slice(0, 12))
    assert.match(drawn, /POST \/tidy\/:id 200 app +█/)
    assert.match(drawn, / cache ledger\/count loaded/)
    assert.match(drawn, / {4}select count/)
    assert.match(drawn, /job ledger\.tidy done app/)
    assert.ok(
      drawn.split('\n').every((line) => line.length <= 80),
      drawn,
    )

    for (const where of ['entries/secret-none', 'broken/secret-id']) await fetch(`${url}/${where}`)
    const list = async (...args: string[]) => {
      const { code, view } = await traces(scratch, ...args)
      assert.equal(code, 0, JSON.stringify(view))
      return (view.traces as TraceRow[]).map(({ name, outcome }) => `${name} ${outcome}`)
    }
    assert.deepEqual((await list()).slice(0, 3), ['GET /broken/:id 500', 'GET /entries/:id 404', 'POST /tidy/:id 200'])
    assert.deepEqual(await list('--failed'), ['GET /broken/:id 500', 'GET /broken/:id 500'])
    assert.deepEqual(await list('--status', '4xx'), ['GET /entries/:id 404'])
    assert.deepEqual(await list('--route', 'TIDY', '--process', 'app', '--last', '1'), ['POST /tidy/:id 200'])
    assert.deepEqual(await list('--slow', '10m'), [])
    const listed = await text(scratch)
    assert.match(listed, /POST \/tidy\/:id +\+1 |POST \/tidy\/:id \+1 /)
    assert.ok(
      listed.split('\n').every((line) => line.length <= 80),
      listed,
    )
    assert.doesNotMatch(listed, /readyz|secret/)

    for (const [args, code, message] of [
      [['f'.repeat(32)], 'TRACE_NOT_FOUND', /rung logs --trace/],
      [['xyz'], 'COMMAND_INVALID', /is not the id of a trace/],
      [['--process', 'web-7'], 'COMMAND_INVALID', /These run: app\./],
      [['--slow', 'soon'], 'COMMAND_INVALID', /--slow must be a time/],
    ] as const) {
      const { view } = await traces(scratch, ...args)
      assert.equal(view.error.code, code)
      assert.match(view.error.message, message)
    }

    process.kill(pid, 'SIGSTOP')
    try {
      const { code, view } = await traces(scratch)
      assert.deepEqual([code, view.traces, view.unread], [0, [], ['app']])
      const { error } = (await traces(scratch, id)).view
      assert.equal(error.code, 'TRACE_NOT_FOUND')
      assert.match(error.message, /app did not answer/)
    } finally {
      process.kill(pid, 'SIGCONT')
    }
  }))
