import { spawn } from 'node:child_process'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { type FailedTest, type Outcome, parseOutcomes, reporterFile } from '../testing/reporter.ts'
import type { Input, Output } from './command.ts'
import { cut } from './table.ts'

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
  for (const signal of ['SIGTERM', 'SIGHUP']) process.once(signal, pass)
  return new Promise((resolve, reject) => {
    child.once('error', reject)
    child.once('close', (code) => {
      resolve(code ?? 1)
    })
  })
}

/** Runs the tests with a second reporter, whose lines are read here. */
export async function runReported(
  environment: Readonly<Record<string, string>>,
  files: readonly string[],
  options: readonly string[],
  input: Input,
): Promise<{ code: number; outcomes: Outcome[] }> {
  const dir = await mkdtemp(path.join(tmpdir(), 'rung-test-'))
  const told = path.join(dir, 'outcomes.jsonl')
  const count = (option: string) => options.filter((one) => one.startsWith(`--test-reporter${option}`)).length
  // Node wants a destination for each, and has its own reporter only where none is named.
  const usual = [
    ...(count('=') === 0 ? ['--test-reporter=spec'] : []),
    ...(count('-destination=') === 0 ? ['--test-reporter-destination=stdout'] : []),
  ]
  const ours = [`--test-reporter=${reporterFile}`, `--test-reporter-destination=${told}`]
  try {
    const args = ['--test', ...options, ...usual, ...ours, ...files]
    const code = await runNode(args, environment, input)
    const outcomes = parseOutcomes(await readFile(told, 'utf8').catch(() => ''))
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
