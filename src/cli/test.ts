import { globSync, statSync } from 'node:fs'
import path from 'node:path'
import { RungError } from '../kernel/errors.ts'
import { givenServer, startTestServer, type TestServer } from '../testing/server.ts'
import { type Command, result } from './command.ts'
import { lagOf, runWithLag } from './test-lag.ts'
import { runOnNodes, seedOf } from './test-nodes.ts'
import { beginRun, environmentFor, runNode } from './test-run.ts'

const defaultPattern = '**/*.test.ts'

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
    const given = givenServer(env)
    if (lag !== undefined && given !== undefined) throw ownServerNeeded()
    const run = beginRun(files, options, input)
    const server: TestServer = given === undefined ? await startTestServer(lag) : { url: given, async stop() {} }
    try {
      if (lag !== undefined) return await runWithLag(lag, server, run)
      if (seed !== undefined) return await runOnNodes(seed, environmentFor(server), run)
      const code = await runNode(['--test', ...options, ...files], environmentFor(server), input)
      return result({ files, passed: code === 0 }, () => {}, code)
    } finally {
      await server.stop()
    }
  },
}
export default test

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
