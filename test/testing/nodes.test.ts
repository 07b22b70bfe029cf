import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { after, test } from 'node:test'
import type { NodesView } from '../../src/cli/test-nodes.ts'

const rung = path.resolve(import.meta.dirname, '../../src/cli/bin.js')
const dir = mkdtempSync(path.join(tmpdir(), 'rung-nodes-'))
after(() => rmSync(dir, { recursive: true, force: true }))

/** Where the author's tests write which node has answered. */
const orderOf = (run: number | string) => path.join(dir, `order-${run}`)

/** Runs the author's tests on the server of this run. */
function run(
  args: readonly string[],
  env: NodeJS.ProcessEnv = {},
): Promise<{ code: number; out: string; all: string }> {
  const { NODE_TEST_CONTEXT: _, ...inherited } = process.env
  const words = ['--conditions=rung-source', rung, 'test', ...args]
  return new Promise((resolve) => {
    const options = { cwd: import.meta.dirname, env: { ...inherited, ...env } }
    execFile(process.execPath, words, options, (error, out, err) =>
      resolve({ code: error === null ? 0 : Number(error.code), out, all: `${out}\n${err}` }),
    )
  })
}

const lineOfViews =
  readFileSync(path.join(import.meta.dirname, 'nodes/views.ts'), 'utf8')
    .split('\n')
    .findIndex((line) => line.includes('new Map')) + 1

test('names the tests that fail on two nodes alone, and the line that keeps what they need', async () => {
  const { code, out } = await run(['nodes/cases.ts', '--nodes', '2', '--seed', '7'], { ORDER_FILE: orderOf(7) })
  assert.equal(code, 1, out)
  const summary = out.slice(out.indexOf('These tests pass on one node'))
  assert.match(
    summary,
    /^These tests pass on one node and fail on two \(--seed 7\):\n\n {2}nodes\/cases\.ts\n {4}kept > /,
  )
  assert.equal(
    summary.match(/^ {4}\w+ > .*$/gm)?.join(),
    '    kept > views are counted,    broken > on any number of nodes',
  )
  assert.ok(
    summary.includes(`  nodes/views.ts:${lineOfViews}\n    "views" is a Map in the memory of one process`),
    summary,
  )
  assert.match(
    summary,
    /These tests fail on one node too:\n\n {2}nodes\/cases\.ts\n {4}broken > on any number of nodes\n/,
  )
})

test('says the same as JSON, and repeats the order of a seed', async () => {
  const { code, out, all } = await run(['nodes/cases.ts', '--nodes', '2', '--seed', '7', '--json'], {
    ORDER_FILE: orderOf('again'),
  })
  assert.equal(code, 1, all)
  const { onlyOnTwo, broken, kept, ...rest } = JSON.parse(out) as NodesView
  assert.deepEqual(
    [onlyOnTwo, broken].map((list) => list.map(({ name }) => name)),
    [['kept > views are counted'], ['broken > on any number of nodes']],
  )
  assert.equal(onlyOnTwo[0]!.file, 'nodes/cases.ts')
  assert.deepEqual(
    kept.map(({ kind, file, line }) => [kind, file, line]),
    [['state', 'nodes/views.ts', lineOfViews]],
  )
  assert.equal(readFileSync(orderOf('again'), 'utf8'), readFileSync(orderOf(7), 'utf8'))
  assert.deepEqual(rest, { files: ['nodes/cases.ts'], passed: false, nodes: 2, seed: 7, appsOnTwo: 1, alone: [] })
})

test('sessions, cache, jobs, mails and the clock are those of both nodes; another seed has another order', async () => {
  const args = ['nodes/cases.ts', '--nodes=2', '--seed=8', '--', '--test-name-pattern=shared']
  const { code, out } = await run(args, { ORDER_FILE: orderOf(8) })
  assert.equal(code, 0, out)
  assert.match(out, /^All tests pass on one node and on two\.$/m)
  assert.notEqual(readFileSync(orderOf(8), 'utf8'), readFileSync(orderOf(7), 'utf8'))
})

test('an app that cannot be loaded twice is told, and so are options that do not fit', async () => {
  const { code, out } = await run(['nodes/own-app.ts', '--nodes', '2'])
  assert.equal(code, 0, out)
  assert.match(out, /^On two nodes, each request on one of them \(--seed \d+\):$/m)
  assert.match(out, /^All tests pass\. No app ran on two nodes\.$/m)
  assert.match(out, /"alone" of nodes\/own-app\.ts ran on one node only\. .*export default defineApp/)
  for (const args of [
    ['--nodes', '3'],
    ['--seed', '1'],
    ['--nodes', '2', '--lag', '1s'],
    ['--nodes', '2', '--seed', 'x'],
  ])
    assert.match((await run(['nodes/own-app.ts', ...args])).all, /(CONFIG|COMMAND)_INVALID/, args.join(' '))
})
