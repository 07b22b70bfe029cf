import { type ChildProcess, spawn } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { createServer } from 'node:net'
import path from 'node:path'
import { fileURLToPath } from 'node:url'

/** The processes that a bench measures. */

export const root = fileURLToPath(new URL('../../', import.meta.url))

/** One that answers, and everything whose CPU it costs. */
export interface Contender {
  name: string
  url: string
  pid: number
  databasePid: number
  stop(): Promise<void>
}

/** Without what the one who runs the bench has set for apps of his own. */
function environment(own: Record<string, string>): Record<string, string> {
  const { PATH = '', HOME = '', TMPDIR } = process.env
  return { PATH, HOME, ...(TMPDIR && { TMPDIR }), RUNG_LIMITS: 'off', RUNG_SHEDDING: 'off', ...own }
}

export function startNode(args: readonly string[], env: Record<string, string>): ChildProcess {
  const child = spawn(process.execPath, args, {
    cwd: root,
    env: environment(env),
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  // What it complains of is of interest only if it fails.
  let notes = ''
  child.stderr!.on('data', (chunk) => {
    notes = (notes + chunk).slice(-2_000)
  })
  child.once('exit', (code) => {
    if (code !== 0) process.stderr.write(notes)
  })
  return child
}

/** The first JSON document of several lines on its standard output. Log lines before it, and the rest, are thrown away. */
export function firstDocument<T>(child: ChildProcess): Promise<T> {
  return new Promise((resolve, reject) => {
    let text = ''
    child.once('exit', (code) => reject(new Error(`a process ended with ${code} before it answered`)))
    child.stdout!.on('data', (chunk: Buffer) => {
      if (text === 'done') return
      text += chunk
      const [document] = /^\{$[\s\S]*?^\}$/m.exec(text) ?? []
      if (document === undefined) return
      resolve(JSON.parse(document) as T)
      text = 'done'
    })
  })
}

export async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  const gone = new Promise((resolve) => child.once('exit', resolve))
  child.kill('SIGTERM')
  await gone
}

/** What `npm start` runs: Node's flags, and the command. Memory and speed are measured as users get them. */
function startScript(): { flags: string[]; command: string[] } {
  const { scripts } = JSON.parse(readFileSync(path.join(root, 'package.json'), 'utf8')) as PackageFile
  const [, ...args] = scripts.start.split(' ')
  const command = args.findIndex((arg) => !arg.startsWith('-'))
  return { flags: args.slice(0, command), command: args.slice(command) }
}

interface PackageFile {
  scripts: { start: string }
}

/** A file with the flags of `npm start`. */
export function startLikeApp(args: readonly string[], env: Record<string, string>): ChildProcess {
  return startNode([...startScript().flags, ...args], env)
}

/** Conduit as `npm start` runs it. */
export async function startConduit(
  name: string,
  dataDir: string,
  env: Record<string, string> = {},
): Promise<Contender> {
  const child = spawnConduit({ RUNG_DATA: dataDir, PORT: '0', ...env })
  const { url, postgresPid } = await firstDocument<{ url: string; postgresPid: number }>(child)
  return { name, url, pid: child.pid!, databasePid: postgresPid, stop: () => end(child) }
}

export function spawnConduit(env: Record<string, string>): ChildProcess {
  return startLikeApp([...startScript().command, '--json'], env)
}

/** Made by the example's own seed, without its search; does nothing where it was made before. */
export async function seed(dataDir: string, articles: number): Promise<void> {
  const main = ['--conditions=rung-source', 'examples/conduit/seed/main.ts']
  const args = [...main, '--articles', String(articles), '--no-search']
  const child = spawn(process.execPath, args, {
    cwd: root,
    env: environment({ RUNG_DATA: dataDir }),
    stdio: ['ignore', 'ignore', 'inherit'],
  })
  const code = await new Promise((resolve) => child.once('exit', resolve))
  if (code !== 0) throw new Error('seeding failed')
}

export function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer()
    server.once('error', reject)
    server.listen(0, '127.0.0.1', () => {
      const { port } = server.address() as { port: number }
      server.close(() => resolve(port))
    })
  })
}
