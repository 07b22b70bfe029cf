import assert from 'node:assert/strict'
import { cp, mkdir, readFile, symlink, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { ledgerApp, until } from './process.ts'

const repository = path.resolve(import.meta.dirname, '../..')

/** A project of its own with the ledger, whose code a test changes. */
export interface Project {
  readonly dir: string
  readonly app: string
  /** Writes its code with another version, and perhaps changes of single places. */
  write(version: string, changes?: Readonly<Record<string, string>>): Promise<void>
  migration(name: string, text: string): Promise<void>
}

export const readHandler = "http.get('/entries/:id', { schema: { params: Id } }, async (request, reply) => {"

/** Copies the folder of an app into a project of its own. @returns the app's file there */
export async function copyProject(dir: string, app: string): Promise<string> {
  const modules = path.join(dir, 'node_modules')
  await mkdir(modules, { recursive: true })
  await symlink(repository, path.join(modules, 'rung'))
  await symlink(path.join(repository, 'node_modules', 'typebox'), path.join(modules, 'typebox'))
  await cp(path.dirname(app), dir, { recursive: true })
  await writeFile(path.join(dir, 'package.json'), '{"type":"module"}')
  return path.join(dir, path.basename(app))
}

export async function ledgerProject(dir: string): Promise<Project> {
  await copyProject(dir, ledgerApp)
  const text = await readFile(ledgerApp, 'utf8')
  const app = path.join(dir, 'app.ts')
  async function write(version: string, changes: Readonly<Record<string, string>> = {}): Promise<void> {
    const route = `  routes(http, { data }) {
    http.get('/version', async (_request, reply) => reply.header('cache-control', 'no-store').send({ version: '${version}', pid: process.pid }))
`
    let changed = text.replace('  routes(http, { data }) {\n', route)
    for (const [from, to] of Object.entries(changes)) {
      assert.ok(changed.includes(from), `${from} is in the code`)
      changed = changed.replace(from, to)
    }
    await writeFile(app, changed)
  }
  await write('1')
  return { dir, app, write, migration: (name, sql) => writeFile(path.join(dir, 'migrations', name), sql) }
}

/** The versions that answer now, of many requests. */
export async function versionsAt({ url }: { url: string }): Promise<string> {
  const found = new Set<string>()
  for (let n = 0; n < 40; n += 1) {
    const answer = await fetch(`${url}/version`)
    found.add(((await answer.json()) as { version: string }).version)
  }
  return [...found].sort().join()
}

/** So many processes of the fleet answer. */
export async function untilAnswers(at: { url: string }, pids: number): Promise<void> {
  const found = new Set<number>()
  await until(async () => {
    const answer = await fetch(`${at.url}/version`)
    found.add(((await answer.json()) as { pid: number }).pid)
    return found.size >= pids
  }, `${pids} processes answer`)
}
