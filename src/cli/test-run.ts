import { spawn } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { readJsonLines } from '../testing/json-lines.ts'
import { type FailedTest, type Outcome, reporterFile } from '../testing/reporter.ts'
import type { TestServer } from '../testing/server.ts'
import { settings } from '../topology/settings.ts'
import type { Input, Output } from './command.ts'
import { cut } from './table.ts'

/** What `rung test` was asked to run. */
export interface TestRun {
  readonly files: readonly string[]
  /** Of `node`. */
  readonly options: readonly string[]
  readonly input: Input
  /** Tells people what runs next. */
  say(text: string): void
  /** Whether a signal has come: nothing more should run. */
  isStopped(): boolean
}

/** From here on this process outlives its children, whatever signal comes: it has to stop the server. */
export function beginRun(files: readonly string[], options: readonly string[], input: Input): TestRun {
  let stopped = false
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.on(signal, () => {
      stopped = true
    })
  }
  const say = input.json ? input.out.note : input.out.line
  return { files, options, input, say, isStopped: () => stopped }
}

/** Its process has the terminal's signals by itself; one that only this process gets is passed on. */
export function runNode(
  args: readonly string[],
  environment: Readonly<Record<string, string>>,
  { cwd, env, json }: Input,
): Promise<number> {
  const child = spawn(process.execPath, [...process.execArgv, ...args], {
    cwd,
    env: { NODE_ENV: 'test', ...env, ...environment },
    stdio: ['inherit', json ? 2 : 'inherit', 'inherit'],
  })
  const pass = () => void child.kill('SIGTERM')
  const passed = ['SIGTERM', 'SIGHUP'] as const
  for (const signal of passed) process.on(signal, pass)
  const ended = new Promise<number>((resolve, reject) => {
    child.once('error', reject)
    child.once('close', (code) => resolve(code ?? 1))
  })
  return ended.finally(() => {
    for (const signal of passed) process.off(signal, pass)
  })
}

type Address = Pick<TestServer, 'url' | 'replica'>

/** How the processes of the tests find the server. */
export function environmentFor({ url, replica }: Address): Record<string, string> {
  const { testServer, testReplica } = settings.process
  return { [testServer.variable]: url, ...(replica !== undefined && { [testReplica.variable]: replica }) }
}

/** Runs the tests with a second reporter, whose lines are read here. */
export async function runReported(
  environment: Readonly<Record<string, string>>,
  { files, options, input }: TestRun,
): Promise<{ code: number; outcomes: Outcome[] }> {
  const dir = await mkdtemp(path.join(tmpdir(), 'rung-test-'))
  const outcomesFile = path.join(dir, 'outcomes.jsonl')
  const count = (option: string) => options.filter((one) => one.startsWith(`--test-reporter${option}`)).length
  // Node wants a destination for each, and has its own reporter only where none is named.
  const usual = [
    ...(count('=') === 0 ? ['--test-reporter=spec'] : []),
    ...(count('-destination=') === 0 ? ['--test-reporter-destination=stdout'] : []),
  ]
  const ours = [`--test-reporter=${reporterFile}`, `--test-reporter-destination=${outcomesFile}`]
  try {
    const args = ['--test', ...options, ...usual, ...ours, ...files]
    const code = await runNode(args, environment, input)
    const outcomes = readJsonLines<Outcome>(outcomesFile)
    return { code, outcomes: outcomes.map((one) => ({ ...one, file: path.relative(input.cwd, one.file) })) }
  } finally {
    await rm(dir, { recursive: true, force: true })
  }
}

/** Names are never cut: they can be given to `--test-name-pattern`. */
export function printByFile<T extends FailedTest>(tests: readonly T[], out: Output, under: (one: T) => string[]) {
  for (const [file, some] of Map.groupBy(tests, (one) => one.file)) {
    out.line(`  ${file}`)
    for (const one of some) {
      out.line(`    ${one.name}`)
      for (const text of under(one)) out.line(`      ${cut(text, 74)}`)
    }
  }
}
