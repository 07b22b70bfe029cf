import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { cp, mkdir, readFile, symlink } from 'node:fs/promises'
import path from 'node:path'
import { fileURLToPath } from 'node:url'

/** Rung as a package, and programs that are run with it. */

const repository = fileURLToPath(new URL('../../', import.meta.url))
const ownBin = path.join(repository, 'node_modules', '.bin')

/** Packs it into `dir`, in a copy of the sources: others may be using dist/ of this checkout. */
export async function pack(dir: string): Promise<{ tarball: string; version: string }> {
  const copy = path.join(dir, 'copy')
  await mkdir(copy)
  const { files, version } = JSON.parse(await readFile(path.join(repository, 'package.json'), 'utf8'))
  const sources = ['package.json', 'tsconfig.json', 'tsconfig.build.json', 'src', 'scripts', 'README.md', 'LICENSE']
  for (const name of [...sources, ...files]) {
    if (name !== 'dist') await cp(path.join(repository, name), path.join(copy, name), { recursive: true })
  }
  await symlink(path.join(repository, 'node_modules'), path.join(copy, 'node_modules'))
  await works('npm', ['pack', '--silent', '--pack-destination', dir], copy)
  return { tarball: path.join(dir, `rung-${version}.tgz`), version }
}

export const install = ['install', '--no-audit', '--no-fund', '--prefer-offline', '--loglevel=error']

/** The machine's own, with these programs first, and nothing of the test run. */
export function environment(bin = ownBin, more: Record<string, string> = {}): NodeJS.ProcessEnv {
  const kept = Object.entries(process.env).filter(
    ([name]) => !/^(RUNG_.*|NODE_(ENV|OPTIONS|TEST_CONTEXT|PATH)|PORT|HOST|DATABASE_URL|LOG_LEVEL|CI)$/.test(name),
  )
  return { ...Object.fromEntries(kept), PATH: [bin, ownBin, process.env.PATH].join(path.delimiter), ...more }
}

export interface Ran {
  code: number | null
  stdout: string
  stderr: string
}

export function run(command: string, args: readonly string[], cwd: string, bin?: string): Promise<Ran> {
  const child = spawn(command, args, { cwd, env: environment(bin), stdio: ['ignore', 'pipe', 'pipe'] })
  const told = { stdout: '', stderr: '' }
  for (const name of ['stdout', 'stderr'] as const) {
    child[name].setEncoding('utf8').on('data', (chunk: string) => {
      told[name] += chunk
    })
  }
  return new Promise((resolve, reject) => {
    child.once('error', reject)
    child.once('close', (code) => resolve({ code, ...told }))
  })
}

export async function works(command: string, args: readonly string[], cwd: string, bin?: string): Promise<Ran> {
  const ran = await run(command, args, cwd, bin)
  assert.equal(ran.code, 0, `${command} ${args.join(' ')}:\n${ran.stdout}\n${ran.stderr}`)
  return ran
}
