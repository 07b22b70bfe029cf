import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import path from 'node:path'
import { test } from 'node:test'
import type { LagReport } from '../../src/testing/lag-report.ts'

const rung = path.resolve(import.meta.dirname, '../../src/cli/bin.js')

/** Runs the author's tests. A long lag makes sure that no read comes too late to be early. */
function run(
  args: readonly string[],
  env: NodeJS.ProcessEnv = {},
): Promise<{ code: number; out: string; all: string }> {
  const { NODE_TEST_CONTEXT: _, RUNG_TEST_SERVER: __, DATABASE_URL: ___, ...inherited } = process.env
  const words = ['--conditions=rung-source', rung, 'test', 'notes/cases.ts', ...args]
  return new Promise((resolve) => {
    const options = { cwd: import.meta.dirname, env: { ...inherited, ...env } }
    execFile(process.execPath, words, options, (error, out, err) =>
      resolve({ code: error === null ? 0 : Number(error.code), out, all: `${out}\n${err}` }),
    )
  })
}

const early = [
  'early > ben sees what ann writes',
  'early > requests without cookies see each other',
  'early > a report shows what was just written',
  'early > in a hook',
]

test('names the tests that fail with lag alone, and what each has read too early', async () => {
  const { code, out } = await run(['--lag', '30s'])
  assert.equal(code, 1, out)
  const summary = out.slice(out.indexOf('These tests pass without lag'))
  assert.deepEqual(
    summary.split('\n').filter((line) => early.some((name) => line.trim() === name)),
    early.map((name) => `    ${name}`),
  )
  assert.match(summary, /^ {2}notes\/cases\.ts$/m)
  for (const read of [
    'GET /notes missed POST /notes (ann)',
    'GET /notes missed POST /notes (dora)',
    'GET /report missed',
  ])
    assert.ok(summary.includes(`      ${read}`), summary)
  assert.match(
    summary,
    /These tests fail without lag too:\n\n {2}notes\/cases\.ts\n {4}broken > whatever replicas do\n/,
  )
  for (const line of summary.split('\n')) assert.ok(line.length <= 80, line)
})

test('says the same of a replica that shows nothing new, as JSON', async () => {
  const { code, out, all } = await run(['--lag', 'paused', '--json'])
  assert.equal(code, 1, all)
  const { late, broken, ...rest } = JSON.parse(out) as LagReport & { passed: boolean; lag: unknown }
  assert.deepEqual(
    late.map(({ name }) => name),
    early,
  )
  const [{ file, reads }] = late as [(typeof late)[0]]
  assert.equal(file, 'notes/cases.ts')
  assert.deepEqual(
    reads.map(({ reader, writer }) => [reader.what, writer]),
    [['GET /notes', { what: 'POST /notes', principal: 'ann' }]],
  )
  assert.deepEqual(
    broken.map(({ name }) => name),
    ['broken > whatever replicas do'],
  )
  assert.deepEqual(rest, { files: ['notes/cases.ts'], passed: false, lag: 'paused', testsReadLate: 3 })
})

test('tests that may run with lag pass, once', async () => {
  const { code, out } = await run(['--lag', '500ms', '--', '--test-name-pattern=right'])
  assert.equal(code, 0, out)
  assert.match(out, /All tests pass with lag/)
  assert.equal(out.match(/^(# |ℹ )pass 4$/gm)?.length, 1)
})

test('needs a server of its own, and a lag that replicas may have', async () => {
  const given = await run(['--lag', '500ms'], { DATABASE_URL: process.env.RUNG_TEST_SERVER })
  assert.deepEqual([given.code, /Unset DATABASE_URL/.test(given.all)], [1, true])
  for (const lag of ['2m', 'soon']) assert.match((await run(['--lag', lag])).all, /CONFIG_INVALID/, lag)
})
