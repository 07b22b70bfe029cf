import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { after, before, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import type { Input } from '../../src/cli/command.ts'
import { scaffold } from '../../src/cli/scaffold.ts'
import { runNode } from '../../src/cli/test-run.ts'
import { processesOn, until } from '../support/process.ts'

const root = fileURLToPath(new URL('../../', import.meta.url))
let dir = ''
before(() => {
  // Inside the package, where its own name leads to it; the dot keeps it out of other checks.
  dir = mkdtempSync(path.join(root, '.new-app-'))
  const versions = { rung: undefined, typebox: '', typescript: '', types: '' }
  for (const [file, text] of Object.entries(scaffold('my-app', versions, 'npm install'))) {
    if (file === 'package.json') continue // its own one would end the package here
    mkdirSync(path.dirname(path.join(dir, file)), { recursive: true })
    writeFileSync(path.join(dir, file), text)
  }
})
after(() => rmSync(dir, { recursive: true, force: true }))

/** Runs Node in the app's folder; with `endAt` it is sent SIGTERM when that file exists. */
async function run(
  args: readonly string[],
  env: NodeJS.ProcessEnv = {},
  endAt?: string,
): Promise<{ code: number; output: string }> {
  const { NODE_TEST_CONTEXT: _, RUNG_TEST_SERVER: __, ...inherited } = process.env
  const child = spawn(process.execPath, ['--conditions=rung-source', ...args], {
    cwd: dir,
    env: { ...inherited, ...env },
  })
  let output = ''
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text) => {
      output += text
    })
  }
  const ended = new Promise<number>((resolve) => child.once('close', (code) => resolve(code ?? -1)))
  if (endAt !== undefined) {
    await until(() => existsSync(endAt), `${endAt} exists`)
    child.kill('SIGTERM')
  }
  return { code: await ended, output }
}
const rung = path.join(root, 'src/cli/bin.js')
const passed = (count: number) => new RegExp(`^(# |ℹ )pass ${count}$`, 'm')

test('signals are passed on only to a process that runs', async () => {
  const out = { line() {}, json() {}, note() {} }
  const input: Input = { positionals: [], values: {}, json: false, env: {}, cwd: root, out }
  const counts = () => ['SIGTERM', 'SIGHUP'].map((signal) => process.listenerCount(signal))
  const before = counts()
  const ended = runNode(['--eval', ''], {}, input)
  const during = counts()
  assert.equal(await ended, 0)
  assert.deepEqual([during, counts()], [before.map((count) => count + 1), before])
})

test('rung test runs the tests of a new app on a server of its own', async () => {
  const { code, output } = await run([rung, 'test'])
  assert.match(output, passed(3))
  assert.doesNotMatch(output, /was not stopped/)
  assert.equal(code, 0)
})

test('a test that does not stop its app ends all the same, and is told', async () => {
  const forgetful = path.join(dir, 'forgetful.test.ts')
  writeFileSync(
    forgetful,
    `import { test } from 'node:test'
import { testApp } from 'rung/testing'
test('starts', async () => void (await testApp()))
`,
  )
  try {
    const { code, output } = await run([rung, 'test', 'forgetful.test.ts'])
    assert.match(output, /The test app "my-app" was not stopped\. Call after\(\(\) => app\.stop\(\)\)/)
    assert.equal(code, 0)
  } finally {
    rmSync(forgetful)
  }
})

test('rung test takes patterns, a folder, and options for node, on the server that it is given', async () => {
  const server = { DATABASE_URL: process.env.RUNG_TEST_SERVER }
  const one = await run([rung, 'test', 'test', '--', '--test-name-pattern=needs a text'], server)
  assert.match(one.output, passed(1))
  const none = await run([rung, 'test', 'orders/**/*.test.ts'], server)
  assert.equal(none.code, 1)
  assert.match(none.output, /No file matches orders/)
})

test('rung test fails with its tests, and shows the error of the app', async () => {
  writeFileSync(
    path.join(dir, 'test/broken.test.ts'),
    `import { test } from 'node:test'
import { testApp } from 'rung/testing'
import app from '../app.ts'
test('is broken', async () => {
  await using running = await testApp(app)
  await running.data('notes').write((tx) => tx\`drop table notes.note\`)
  await running.request('/notes', { expect: 200 })
})
`,
  )
  const { code, output } = await run([rung, 'test', 'test/broken.test.ts'], {
    RUNG_TEST_SERVER: process.env.RUNG_TEST_SERVER,
  })
  rmSync(path.join(dir, 'test/broken.test.ts'))
  assert.equal(code, 1)
  assert.match(output, /GET \/notes was answered with 500, not 200/)
  assert.match(output, /relation "notes\.note" does not exist/)
})

test('node --test by itself starts a server for the file, and leaves nothing behind', async () => {
  const tmp = path.join(dir, 'tmp')
  mkdirSync(tmp)
  const { code, output } = await run(['--test', 'test/notes.test.ts'], { TMPDIR: tmp })
  assert.match(output, passed(3))
  assert.equal(code, 0)
  assert.deepEqual(
    readdirSync(tmp).filter((name) => name.startsWith('rung-test-')),
    [],
  )
})

for (const lag of [[], ['--lag', '500ms']])
  test(['rung test', ...lag, 'that is ended leaves neither processes nor files behind'].join(' '), () => endsClean(lag))

async function endsClean(lag: readonly string[]): Promise<void> {
  const tmp = mkdtempSync(path.join(dir, 'ended-'))
  const file = path.join(dir, 'test/waits.test.ts')
  writeFileSync(
    file,
    `import { writeFileSync } from 'node:fs'
import { test } from 'node:test'
import { testApp } from 'rung/testing'
import app from '../app.ts'
test('waits', async () => {
  await using running = await testApp(app)
  writeFileSync(process.env.WAITS, running.url)
  await new Promise((resolve) => setTimeout(resolve, 1_000_000))
})
`,
  )
  const waits = path.join(tmp, 'waits')
  const { code } = await run([rung, 'test', 'test/waits.test.ts', ...lag], { TMPDIR: tmp, WAITS: waits }, waits)
  rmSync(file)
  assert.notEqual(code, 0)
  assert.deepEqual(await processesOn(tmp), [])
  const left = readdirSync(tmp, { recursive: true }).filter((name) => path.basename(String(name)) === 'postgres')
  assert.deepEqual(left, [])
}
