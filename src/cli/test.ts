import { globSync, statSync } from 'node:fs'
import path from 'node:path'
import { RungError } from '../kernel/errors.ts'
import { type Duration, formatMs, toMs } from '../kernel/units.ts'
import { type Actor, type LagReport, type LateTest, lagReport } from '../testing/lag-report.ts'
import { type Lag, lateReadsIn } from '../testing/late-replica.ts'
import type { Outcome } from '../testing/reporter.ts'
import { startTestServer, type TestServer } from '../testing/server.ts'
import { readSetting } from '../topology/read-settings.ts'
import { settings } from '../topology/settings.ts'
import { type Command, type Input, type Output, type Result, result } from './command.ts'
import { runOnNodes, seedOf } from './test-nodes.ts'
import { printByFile, runNode, runReported } from './test-run.ts'

const defaultPattern = '**/*.test.ts'
/** A replica that lags by more than a minute leaves the rotation, see `RUNG_LAG_MS`. */
const lagMsMax = 30_000

const test: Command = {
  name: 'test',
  summary: 'run the tests of this folder',
  usage: 'rung test [pattern …] [--lag <time>] [--nodes 2] [-- node-option …]',
  help: [
    'Runs test files with "node --test", on one Postgres that all of them share: a test app',
    '(rung/testing) gets a database of its own there, a copy of a template. The server is',
    'started for the run and its data removed; with DATABASE_URL that server is used, and',
    'its role needs CREATEDB.',
    '',
    `A pattern names files or a folder; without one all of ${defaultPattern} run. What stands`,
    'behind -- goes to node.',
    '',
    'With --lag test apps read from a replica that is late, as in production, one file after',
    'the other. Files in which a test fails then run again without it. The tests that fail',
    'only with lag are listed, with what they read too early: they rely on what another',
    'session has just written.',
    '',
    'With --nodes 2 the tests run on one node, and then with each request of a test on one of',
    'two, which share the database and nothing else. The tests that fail only on two are',
    'listed, with the lines of the app that keep something in one process. --seed repeats',
    'the order.',
  ].join('\n'),
  settings: ['process.testServer', 'process.testReplica', 'process.testNodes'],
  examples: [
    'rung test',
    'rung test orders',
    "rung test 'orders/**/*.test.ts' -- --test-name-pattern=refund",
    'rung test --lag 500ms',
    'rung test --nodes 2',
  ],
  options: {
    lag: { type: 'string', value: 'time', help: 'How late the replica is: 10ms to 30s, or "paused": nothing arrives.' },
    nodes: { type: 'string', value: 'number', help: 'How many nodes the app runs on: 1 (default), or 2.' },
    seed: { type: 'string', value: 'number', help: 'Decides which of two nodes answers a request. Default: any.' },
  },
  async run(input) {
    const { positionals, env } = input
    const files = filesOf(
      positionals.filter((word) => !word.startsWith('-')),
      input.cwd,
    )
    const options = positionals.filter((word) => word.startsWith('-'))
    const lag = lagOf(input)
    const seed = seedOf(input)
    if (lag !== undefined && seed !== undefined) throw oneAtATime()
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => {}) // `runNode` passes them on
    const given = readSetting(settings.process.testServer, { env }) ?? readSetting(settings.data.url, { env })
    if (lag !== undefined && given !== undefined) throw ownServerNeeded()
    const server: TestServer = given === undefined ? await startTestServer(lag) : { url: given, async stop() {} }
    try {
      if (lag !== undefined) return await runWithLag(lag, server, files, options, input)
      if (seed !== undefined) return await runOnNodes(seed, environmentFor(server), { files, options }, input)
      const code = await runNode(['--test', ...options, ...files], environmentFor(server), input)
      return result({ files, passed: code === 0 }, () => {}, code)
    } finally {
      await server.stop()
    }
  },
}
export default test

/** @throws CONFIG_INVALID */
function lagOf({ values: { lag } }: Input): Lag | undefined {
  if (lag === undefined || lag === 'paused') return lag
  const ms = toMs(lag as Duration)
  if (Number.isInteger(ms) && ms >= 10 && ms <= lagMsMax) return ms
  throw new RungError('CONFIG_INVALID', `--lag must be a time from 10ms to 30s, or "paused"; it is "${lag}".`)
}

function oneAtATime(): RungError {
  return new RungError(
    'CONFIG_INVALID',
    '--lag and --nodes look for different faults. Run the tests with one, then with the other.',
  )
}

function ownServerNeeded(): RungError {
  return new RungError(
    'CONFIG_INVALID',
    '--lag needs a server and a replica that only this run uses, because it holds the replica back. Unset DATABASE_URL and RUNG_TEST_SERVER; both are started then.',
  )
}

/** @throws CONFIG_INVALID where there is no test */
function filesOf(words: readonly string[], cwd: string): string[] {
  const patterns = words.length === 0 ? [defaultPattern] : words.map((word) => inFolder(word, cwd))
  const exclude = (name: string) => path.basename(name) === 'node_modules'
  const files = [...new Set(globSync(patterns, { cwd, exclude }))].sort()
  if (files.length > 0) return files
  throw new RungError(
    'CONFIG_INVALID',
    `No file matches ${patterns.join(' ')}. Name the tests: rung test 'orders/**/*.test.ts'`,
  )
}

function inFolder(word: string, cwd: string): string {
  const isFolder = statSync(path.resolve(cwd, word), { throwIfNoEntry: false })?.isDirectory()
  return isFolder ? path.join(word, defaultPattern) : word
}

type Address = Pick<TestServer, 'url' | 'replica'>

function environmentFor({ url, replica }: Address): Record<string, string> {
  const { testServer, testReplica } = settings.process
  return { [testServer.variable]: url, ...(replica !== undefined && { [testReplica.variable]: replica }) }
}

// With lag

interface LagView extends LagReport {
  files: readonly string[]
  passed: boolean
  /** Milliseconds, or `paused`. */
  lag: Lag
}

async function runWithLag(
  lag: Lag,
  server: TestServer,
  files: readonly string[],
  options: readonly string[],
  input: Input,
): Promise<Result> {
  const { json, out } = input
  let isStopped = false
  const stop = () => {
    isStopped = true
  }
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, stop)
  const say = json ? out.note : out.line
  say(`With a replica that is ${lagText(lag)}:`)
  // One file after the other: each test app lets the replica catch up, for all of them.
  const withLag = await runReported(environmentFor(server), files, ['--test-concurrency=1', ...options], input)
  const failed = new Set(withLag.outcomes.filter((one) => one.failed).map(({ file }) => file))
  const again: Outcome[] = []
  if (failed.size > 0 && !isStopped) {
    const some = files.filter((file) => failed.delete(path.normalize(file)))
    say('Without a replica, the files in which a test has failed:')
    // A test that a helper defines is told with the helper's file.
    const second = await runReported(
      environmentFor({ url: server.url }),
      failed.size > 0 ? files : some,
      options,
      input,
    )
    again.push(...second.outcomes)
  }
  const ran = { files, passed: withLag.code === 0, lag }
  if (isStopped) return result({ ...ran, passed: false }, () => {}, withLag.code || 1) // nothing can be compared
  const reads = lateReadsIn(server.replica!).map((read) => ({ ...read, file: path.relative(input.cwd, read.file) }))
  const view: LagView = { ...ran, ...lagReport(withLag.outcomes, again, reads) }
  return result(view, () => print(view, out), withLag.code)
}

function lagText(lag: Lag): string {
  return lag === 'paused' ? 'paused' : `${formatMs(lag)} late`
}

const readsMax = 3

function print({ lag, late, broken, testsReadLate, passed }: LagView, out: Output): void {
  if (late.length > 0) {
    out.line(`These tests pass without lag and fail with it (the replica was ${lagText(lag)}):`)
    out.line()
    printByFile(late, out, ({ error, reads }) => [...(error === undefined ? [] : [error]), ...readLines(reads)])
    out.line()
    for (const text of advice) out.line(text)
  }
  if (broken.length > 0) {
    if (late.length > 0) out.line()
    out.line('These tests fail without lag too:')
    out.line()
    printByFile(broken, out, () => [])
  }
  if (late.length === 0 && broken.length === 0 && passed)
    out.line(
      testsReadLate === 0
        ? 'All tests pass with lag. None of them has read anything late, so this says little.'
        : `All tests pass with lag. Tests that have read something late: ${testsReadLate}.`,
    )
}

function readLines(reads: LateTest['reads']): string[] {
  if (reads.length === 0) return ['No late read is known of it: it fails at times, or because of another.']
  const lines = reads
    .slice(-readsMax)
    .map(({ reader, writer, afterMs }) => `${actor(reader)} missed ${actor(writer)}, ${formatMs(afterMs)} old`)
  return reads.length > readsMax ? [...lines, `and ${reads.length - readsMax} more`] : lines
}

function actor({ what, principal }: Actor): string {
  return principal === undefined ? what : `${what} (${principal})`
}

const advice = [
  'A session sees what it has written and seen. What others write may come later.',
  '- If it is one user, send all requests with one app.client() or app.as(user).',
  '- If the route decides by what others have written, read that inside data.write.',
  '- If later will do, let time pass in the test: await app.clock.advance("5s").',
]
