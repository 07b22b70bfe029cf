import assert from 'node:assert/strict'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { after, beforeEach, describe, it } from 'node:test'
import { main } from '../../src/cli/main.ts'
import { writeMarker } from '../../src/engines/postgres/data-dir.ts'
import { findApp } from '../../src/runtime/load-app.ts'
import { loadSettings } from '../../src/runtime/load-settings.ts'

const folders: string[] = []
let dir: string
beforeEach(async () => {
  dir = await mkdtemp(path.join(tmpdir(), 'rung-test-'))
  folders.push(dir)
})
after(() => Promise.all(folders.map((one) => rm(one, { recursive: true, force: true }))))

async function put(file: string, text: string): Promise<void> {
  await mkdir(path.dirname(path.join(dir, file)), { recursive: true })
  await writeFile(path.join(dir, file), text)
}

async function errorOf(args: string[], env: Record<string, string> = {}): Promise<{ code: string; message: string }> {
  let document: unknown
  const out = {
    line() {},
    note() {},
    json(value: unknown) {
      document = value
    },
  }
  await main([...args, '--json'], env, dir, out)
  return (document as { error: { code: string; message: string } }).error
}

const commands = [
  ['start'],
  ['up'],
  ['topology'],
  ['migrate'],
  ['doctor'],
  ['jobs'],
  ['events'],
  ['cache'],
  ['backup'],
  ['restore', '--to', 'latest', '--into', 'new'],
]

describe('every command', () => {
  it('reads rung.config.ts and the environment by the same rule, with the same errors', async () => {
    await put('src/app.ts', 'export default {}\n')
    await put('src/rung.config.ts', "export default { log: { level: 'loud' } }\n")
    for (const command of commands) {
      const { code, message } = await errorOf(command)
      assert.equal(code, 'CONFIG_INVALID', command[0])
      assert.match(message, /^log\.level of rung\.config\.ts is "loud"; it must be one of trace, /, command[0])
      const wins = await errorOf(command, { LOG_LEVEL: 'quiet', RUNG_CONFIG: 'none' })
      assert.match(wins.message, /^LOG_LEVEL is "quiet"; it must be one of trace, /, command[0])
    }
  })
})

describe('the file of the app', () => {
  it('is the one that is named, otherwise that of package.json, otherwise app.ts or src/app.ts', async () => {
    assert.equal(findApp(undefined, dir), undefined)
    await put('src/app.ts', '')
    assert.equal(findApp(undefined, dir), path.join(dir, 'src/app.ts'))
    await put('app.ts', '')
    assert.equal(findApp(undefined, dir), path.join(dir, 'app.ts'))
    await put('server/main.ts', '')
    await put('package.json', JSON.stringify({ rung: { app: 'server/main.ts' } }))
    assert.equal(findApp(undefined, dir), path.join(dir, 'server/main.ts'))
    assert.equal(findApp('src/app.ts', dir), path.join(dir, 'src/app.ts'))
    assert.throws(() => findApp('none.ts', dir), { code: 'APP_NOT_FOUND' })
  })
})

describe('the settings', () => {
  it('are those of the file beside the app, otherwise of the folder, or of a file that is named', async () => {
    await put('src/app.ts', '')
    const level = async (env: Record<string, string> = {}) => (await loadSettings({ env }, dir)).values.log.level
    assert.equal(await level(), 'info')
    await put('rung.config.ts', "export default { log: { level: 'warn' } }\n")
    assert.equal(await level(), 'warn')
    await put('src/rung.config.ts', "export default { log: { level: 'error' } }\n")
    assert.equal(await level(), 'error')
    assert.equal(await level({ LOG_LEVEL: 'debug' }), 'debug')
    assert.equal(await level({ RUNG_CONFIG: 'rung.config.ts' }), 'warn')
    assert.equal(await level({ RUNG_CONFIG: 'none' }), 'info')
    await assert.rejects(level({ RUNG_CONFIG: 'other.ts' }), /RUNG_CONFIG names .*other\.ts, which does not exist/)
  })

  it('lead nowhere outside on an isolated data directory, except those of a supervisor for its own children', async () => {
    const env = { RUNG_DATA: '.', DATABASE_URL: 'postgres://nobody@127.0.0.1:1/none' }
    const url = async (more: Record<string, string> = {}) =>
      (await loadSettings({ env: { ...env, ...more } }, dir)).values.data.url
    assert.equal(await url(), env.DATABASE_URL)
    await writeMarker(dir, { isolated: true })
    assert.equal(await url(), undefined)
    assert.equal(await url({ RUNG_FLEET: String(process.ppid) }), env.DATABASE_URL)
    assert.equal(await url({ RUNG_FLEET: String(process.pid) }), undefined, 'inherited from a process of a fleet')
    await assert.rejects(url({ RUNG_FLEET: 'on' }), { code: 'CONFIG_INVALID' })
    for (const damaged of ['', '{"layout":1,"postgres":18,"isol', 'null']) {
      await put('rung.json', damaged)
      await assert.rejects(url(), { code: 'DATA_DIR_FOREIGN' }, damaged)
    }
  })
})
