import assert from 'node:assert/strict'
import { after, before, it } from 'node:test'
import { fileURLToPath } from 'node:url'
import { hostile } from '../support/hostile.ts'
import { launchRung, openScratch, type RungProcess, until } from '../support/process.ts'

const app = fileURLToPath(new URL('../support/apps/hostile/app.ts', import.meta.url))
const values = Object.keys(hostile)
const hooks = ['onRequest', 'preParsing', 'preValidation', 'preHandler', 'preSerialization', 'onSend', 'onResponse']
const paths = [
  ...['throws', 'rejects', 'returns', 'sends', 'facts', 'cause', 'schema', 'kept', 'kept-returns'].map(
    (one) => `/route/${one}`,
  ),
  ...hooks.map((one) => `/hook/${one}`),
  ...['write', 'read', 'returns', 'binds', 'batch'].map((one) => `/data/${one}`),
  ...['throws', 'rejects', 'returns', 'tags', 'many', 'invalidates'].map((one) => `/cache/${one}`),
  ...['/call/throws', '/call/returns', '/mail', '/files', '/search', '/log'],
  ...['promise', 'timer', 'immediate', 'microtask', 'tick', 'event'].map((one) => `/stray/${one}`),
]
const posts = ['/route/idempotent', '/route/idempotent-returns', '/route/login']

let scratch: Awaited<ReturnType<typeof openScratch>>
let running: RungProcess

before(async () => {
  scratch = await openScratch()
  running = await scratch.start({ app, env: { RUNG_LIMITS: 'on' } })
})
after(() => scratch.end())

async function ask(path: string, init: RequestInit = {}): Promise<number> {
  const response = await fetch(`${running.url}${path}`, { signal: AbortSignal.timeout(60_000), ...init })
  await response.text()
  return response.status
}

for (const value of values) {
  it(`a process outlives: ${value}`, async () => {
    const query = `value=${encodeURIComponent(value)}`
    for (const path of paths) {
      const status = await ask(`${path}?${query}`).catch((error) => assert.fail(`${path}: ${error.cause ?? error}`))
      assert.ok(status >= 200 && status < 600, path)
    }
    for (const path of posts) {
      const headers = { 'content-type': 'application/json', 'idempotency-key': `"${path} ${value}"` }
      await ask(`${path}?${query}`, { method: 'POST', body: '{}', headers })
    }
    for (const format of [value, `returns ${value}`]) {
      assert.equal(await ask(`/route/throws?value=zero&format=${encodeURIComponent(format)}`), 500)
    }
    assert.equal(await ask('/alive', { headers: { 'x-identify': value } }), 200)
    assert.equal(await ask(`/work?${query}`, { method: 'POST' }), 200)
  })
}

it('each job and each delivery that failed is among the dead, with a text', async () => {
  const expected = new Set(
    values.flatMap((value) =>
      ['hostile.happened', 'hostile.no-retry', 'hostile.rejects', 'hostile.throws'].map((name) => `${name}: ${value}`),
    ),
  )
  let dead: { name: string; value: string; failures: number }[] = []
  await until(
    async () => {
      dead = (await (await fetch(`${running.url}/dead`)).json()) as typeof dead
      return dead.length >= expected.size
    },
    () => `all are dead, not only ${dead.map(({ name, value }) => `${name}: ${value}`)}`,
  )
  assert.deepEqual(new Set(dead.map(({ name, value }) => `${name}: ${value}`)), expected)
  assert.ok(dead.every(({ name, failures }) => failures === (name === 'hostile.throws' ? 2 : 1)))
})

it('what it has outlived is among its errors', async () => {
  interface Shown {
    count: number
    sample: { where: string; errors: { code?: string }[] }
  }
  const outside = ({ sample }: Shown) => sample.where === 'outside of requests and jobs'
  const [shown] = await until(async () => {
    const { exited, stdout } = launchRung({
      command: ['errors', '--last', '1000', '--json'],
      dataDir: scratch.dataDir,
      cwd: scratch.dir,
    })
    await exited
    const found = JSON.parse(stdout()) as Shown[]
    return found.some(outside) && [found]
  }, 'they are written')
  const stray = shown!.filter(outside)
  assert.ok(stray.every(({ sample }) => sample.errors[0]!.code === 'APP_ERROR_STRAY'))
  assert.ok(stray.reduce((sum, { count }) => sum + count, 0) >= values.length)
})

it('the same process still answers, stops in order, and starts again', async () => {
  assert.equal(await ask('/alive'), 200)
  assert.equal((await running.stop()).code, 0)
  running = await scratch.start({ app })
  assert.equal(await ask('/alive'), 200)
})
