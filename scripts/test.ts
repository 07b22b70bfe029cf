/**
 * `npm test [-- --lane name | file …]`: lint, types, then every test, those of one lane (`scripts/lanes.ts`), or those of some
 * files, on engines that it starts itself and installs on Debian. With CI=true a skipped test is a failure.
 */
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { availableParallelism, tmpdir } from 'node:os'
import path from 'node:path'
import { text } from 'node:stream/consumers'
import { finished } from 'node:stream/promises'
import { run } from 'node:test'
import { spec } from 'node:test/reporters'
import { inspect, parseArgs } from 'node:util'
import { canInstall, installDebian } from '../src/engines/process/debian.ts'
import { startTestServer } from '../src/testing/server.ts'
import { browserPackages, noBrowser } from '../test/support/browser.ts'
import { composePackages, noCompose } from '../test/support/docker-compose.ts'
import { startExternal } from '../test/support/external-postgres.ts'
import { fakeClockPackages, noFakeClocks } from '../test/support/fake-clock.ts'
import { noPatroni, patroniPackages } from '../test/support/patroni.ts'
import { noPromtool, prometheusPackages } from '../test/support/promtool.ts'
import { noS3, s3Packages } from '../test/support/s3.ts'
import slowest from '../test/support/slowest.ts'
import { laneNames, testFiles } from './lanes.ts'

const root = path.resolve(import.meta.dirname, '..')
const { values, positionals: asked } = parseArgs({
  allowPositionals: true,
  options: { lane: { type: 'string' } },
})
if (values.lane !== undefined && !laneNames.includes(values.lane)) {
  console.error(`There is no lane "${values.lane}"; choose one of ${laneNames.join(', ')}.`)
  process.exit(2)
}

/** Ends the tests when lint or types have failed. */
const hopeless = new AbortController()

/** Runs beside the tests. Resolves when it has passed; else shows what it says, and ends the tests. */
async function step(name: string, command: string, args: readonly string[]): Promise<void> {
  const child = spawn(path.join(root, 'node_modules/.bin', command), args, { cwd: root })
  const output = Promise.all([text(child.stdout), text(child.stderr)])
  const [code] = await once(child, 'close')
  if (code === 0) return console.log(`${name} ok`)
  console.log(`${name} failed\n${(await output).join('\n')}`)
  process.exitCode = 1
  hopeless.abort()
}

const checks = asked.length === 0 ? [step('lint', 'biome', ['check', '.']), step('types', 'tsc', ['--noEmit'])] : []

// What is missing is installed where that may be done unasked; elsewhere it says how, and tests that need it are skipped.
const rung = [path.join(root, 'src/cli/bin.js'), 'engines', 'install']
spawnSync(process.execPath, ['--conditions=rung-source', ...rung], { cwd: root, stdio: 'inherit' })

const alsoNeeded = [
  ...(noBrowser ? [browserPackages] : []),
  ...(noS3 ? [s3Packages] : []),
  ...(noPatroni ? patroniPackages : []),
  ...(noFakeClocks ? [fakeClockPackages] : []),
  ...(noCompose ? [composePackages] : []),
  ...(noPromtool ? [prometheusPackages] : []),
]
if (canInstall()) await installDebian(alsoNeeded, (line) => console.log(line))

const otherPostgres = process.env.RUNG_TEST_POSTGRES_BIN
const server = otherPostgres ? await startExternal(otherPostgres) : await startTestServer()
process.env.RUNG_TEST_POSTGRES = new URLSearchParams(server.url.split('?')[1]).get('host')!
process.env.RUNG_TEST_SERVER = server.url
process.env.NODE_ENV = 'test'
const template = mkdtempSync(path.join(tmpdir(), 'rung-test-template-'))
process.env.RUNG_TEST_TEMPLATE = template // test/support/data-template.ts
// Each file is a process of its own that loads the same sources: half of what a short one costs.
process.env.NODE_COMPILE_CACHE ??= path.join(tmpdir(), 'node-compile-cache')
try {
  const { failed, skipped } = await runTests(asked.length > 0 ? asked : testFiles(root, values.lane))
  await Promise.all(checks)
  if (failed) process.exitCode = 1
  if (skipped > 0 && process.env.CI === 'true') {
    console.log(`${skipped} tests were skipped: in CI that is a failure`)
    process.exitCode = 1
  }
} finally {
  await server.stop()
  rmSync(template, { recursive: true, force: true })
}

async function runTests(files: readonly string[]): Promise<{ failed: boolean; skipped: number }> {
  const stream = run({
    cwd: root,
    files: files.map((file) => path.resolve(root, file)),
    signal: hopeless.signal,
    // Most files wait now and then: for a lease, a process, a disk.
    concurrency: Math.min(4, availableParallelism() + 1),
    timeout: 1_800_000, // for what hangs; no limit for slow machines
    execArgv: ['--conditions=rung-source', `--import=${path.join(root, 'test/support/left-open.ts')}`],
  })
  let failed = false
  let skipped = 0
  stream.on('test:fail', ({ name, details: { error } }) => {
    failed = true
    // At once: the report with all failures comes last, and a run may be ended before.
    const ofSuite = 'failureType' in error && error.failureType === 'subtestsFailed'
    if (!ofSuite) console.log(`failed: ${name}: ${inspect(error.cause).slice(0, 2_000)}`)
  })
  stream.on('test:summary', ({ file, counts, success }) => {
    if (file !== undefined) return
    skipped = counts.skipped
    if (!success) failed = true
  })
  for (const reporter of [new spec(), slowest]) stream.compose(reporter).pipe(process.stdout, { end: false })
  await finished(stream)
  return { failed, skipped }
}
