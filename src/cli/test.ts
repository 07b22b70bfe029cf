import { spawn } from 'node:child_process'
import { globSync, statSync } from 'node:fs'
import path from 'node:path'
import { RungError } from '../kernel/errors.ts'
import { startTestServer, type TestServer } from '../testing/server.ts'
import { readSetting } from '../topology/read-settings.ts'
import { settings } from '../topology/settings.ts'
import { type Command, type Input, result } from './command.ts'

const defaultPattern = '**/*.test.ts'

const test: Command = {
  name: 'test',
  summary: 'run the tests of this folder',
  usage: 'rung test [pattern …] [-- node-option …]',
  help: [
    'Runs test files with "node --test", on one Postgres that all of them share: a test app',
    '(rung/testing) gets a database of its own there, a copy of a template. The server is',
    'started for the run and its data removed; with DATABASE_URL that server is used, and',
    'its role needs CREATEDB.',
    '',
    `A pattern names files or a folder; without one all of ${defaultPattern} run. What stands`,
    'behind -- goes to node.',
  ].join('\n'),
  settings: ['process.testServer'],
  examples: ['rung test', 'rung test orders', "rung test 'orders/**/*.test.ts' -- --test-name-pattern=refund"],
  options: {},
  async run(input) {
    const { positionals, env } = input
    const files = filesOf(
      positionals.filter((word) => !word.startsWith('-')),
      input.cwd,
    )
    const options = positionals.filter((word) => word.startsWith('-'))
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => {}) // `runNode` passes them on
    const given = readSetting(settings.process.testServer, { env }) ?? readSetting(settings.data.url, { env })
    const server: TestServer = given === undefined ? await startTestServer() : { url: given, async stop() {} }
    try {
      const code = await runNode(['--test', ...options, ...files], server.url, input)
      return result({ files, passed: code === 0 }, () => {}, code)
    } finally {
      await server.stop()
    }
  },
}
export default test

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

/** Its process has the terminal's signals by itself; one that only this process gets is passed on. */
function runNode(args: readonly string[], serverUrl: string, { cwd, env, json }: Input): Promise<number> {
  const child = spawn(process.execPath, [...process.execArgv, ...args], {
    cwd,
    env: { NODE_ENV: 'test', ...env, [settings.process.testServer.variable]: serverUrl },
    stdio: ['inherit', json ? 2 : 'inherit', 'inherit'],
  })
  const pass = () => void child.kill('SIGTERM')
  for (const signal of ['SIGTERM', 'SIGHUP']) process.once(signal, pass)
  return new Promise((resolve, reject) => {
    child.once('error', reject)
    child.once('close', (code) => {
      resolve(code ?? 1)
    })
  })
}
