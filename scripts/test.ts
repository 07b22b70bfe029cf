/**
 * `npm test [-- --lane name | file …]`: lint, types, then every test, those of one lane (`scripts/lanes.ts`), or those of some
 * files, on engines that it starts itself and installs on Debian. With CI=true a skipped test is a failure.
 */
import { spawn, spawnSync } from 'node:child_process'
import path from 'node:path'
import { parseArgs } from 'node:util'
import { canInstall, installDebian } from '../src/engines/process/debian.ts'
import { startTestServer } from '../src/testing/server.ts'
import { browserPackages, noBrowser } from '../test/support/browser.ts'
import { noPooler, poolerPackages } from '../test/support/pgbouncer.ts'
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

function step(name: string, command: string, args: readonly string[]): void {
  process.stdout.write(`${name} … `)
  const { status, stdout, stderr } = spawnSync(path.join(root, 'node_modules/.bin', command), args, {
    cwd: root,
    encoding: 'utf8',
  })
  console.log(status === 0 ? 'ok' : 'failed')
  if (status === 0) return
  console.log(stdout, stderr)
  process.exit(1)
}

if (asked.length === 0) {
  step('lint', 'biome', ['check', '.'])
  step('types', 'tsc', ['--noEmit'])
}

// What is missing is installed where that may be done unasked; elsewhere it says how, and tests that need it are skipped.
const rung = [path.join(root, 'src/cli/bin.js'), 'engines', 'install']
spawnSync(process.execPath, ['--conditions=rung-source', ...rung], { cwd: root, stdio: 'inherit' })

const wanted = [...(noBrowser ? [browserPackages] : []), ...(noPooler ? [poolerPackages] : [])]
if (wanted.length > 0 && canInstall()) await installDebian(wanted, (line) => console.log(line))

const files = asked.length > 0 ? asked : testFiles(root, values.lane)
const server = await startTestServer()
const socketDir = new URLSearchParams(server.url.split('?')[1]).get('host')!
let skipped = 0
try {
  const code = await run(files)
  if (skipped > 0 && process.env.CI === 'true') {
    console.log(`${skipped} tests were skipped: in CI that is a failure`)
    process.exitCode = 1
  } else process.exitCode = code
} finally {
  await server.stop()
}

function run(list: readonly string[]): Promise<number> {
  const args = [
    '--conditions=rung-source',
    '--test',
    '--test-timeout=1800000', // for what hangs; no limit for slow machines
    `--import=${path.join(root, 'test/support/left-open.ts')}`,
    '--test-concurrency=2',
    '--test-reporter=spec',
    '--test-reporter-destination=stdout',
    `--test-reporter=${path.join(root, 'test/support/slowest.ts')}`,
    '--test-reporter-destination=stdout',
    ...list,
  ]
  const child = spawn(process.execPath, args, {
    cwd: root,
    stdio: ['ignore', 'pipe', 'inherit'],
    env: { ...process.env, RUNG_TEST_POSTGRES: socketDir, RUNG_TEST_SERVER: server.url, NODE_ENV: 'test' },
  })
  child.stdout.setEncoding('utf8')
  let tail = ''
  child.stdout.on('data', (chunk: string) => {
    process.stdout.write(chunk)
    tail = (tail + chunk).slice(-10_000)
  })
  return new Promise((resolve, reject) => {
    child.once('error', reject)
    child.once('close', (code) => {
      skipped = Number(/ℹ skipped (\d+)/.exec(tail)?.[1] ?? 0)
      resolve(code ?? 1)
    })
  })
}
