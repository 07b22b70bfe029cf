import assert from 'node:assert/strict'
import { spawn, spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import type { AddressInfo } from 'node:net'
import { createServer } from 'node:net'
import path from 'node:path'
import { test } from 'node:test'
import { bin, environment, ledgerApp, postgresPidOf, processesOn, until, withScratch } from '../support/process.ts'

test('rung start | head -3 stops in order: nobody reads it any more', () =>
  withScratch(async ({ dir, dataDir, atEnd }) => {
    const child = spawn(
      'sh',
      ['-c', '"$0" "$@" 2>rung.err | head -3', process.execPath, '--conditions=rung-source', bin, 'start', ledgerApp],
      {
        cwd: dir,
        env: environment({ dataDir }),
        stdio: ['ignore', 'pipe', 'inherit'],
      },
    )
    atEnd(() => child.kill('SIGKILL'))
    let text = ''
    child.stdout.setEncoding('utf8').on('data', (chunk: string) => {
      text += chunk
    })
    const code = await new Promise((resolve) => child.once('close', resolve))
    assert.equal(code, 0)
    assert.match(text, /^ledger runs at rung 1k.*\n.*\n.*\n$/)
    assert.ok(existsSync(path.join(dataDir, 'postgres')))
    assert.equal(postgresPidOf(dataDir), undefined)
    assert.deepEqual(await processesOn(dataDir), [])
  }))

test('a port that is taken is told before a database is made', () =>
  withScratch(async ({ dataDir, startFails }) => {
    const taken = createServer()
    await new Promise<void>((resolve) => taken.listen(0, '127.0.0.1', resolve))
    const { port } = taken.address() as AddressInfo
    const { error } = await startFails({ env: { PORT: String(port) } })
    assert.equal(error?.code, 'PORT_IN_USE')
    assert.ok(!existsSync(path.join(dataDir, 'postgres')))
    taken.close()
  }))

test('a first start says at once what it does, a second one has nothing to say', () =>
  withScratch(async ({ launch }) => {
    const command = ['start', ledgerApp]
    const first = launch({ command })
    await first.saw(/Making a database in data, this once/)
    assert.doesNotMatch(first.stderr().split('Making')[0]!, /migrated/)
    await first.stop()
    const second = launch({ command })
    await until(() => second.stdout().includes('Ctrl-C'), 'the second one runs')
    await second.stop()
    assert.doesNotMatch(second.stderr(), /Making/)
  }))

test('an old Node is told which one is needed, in a sentence', () => {
  const old = `data:text/javascript,Object.defineProperty(process.versions, 'node', { value: '20.20.2' })`
  const { status, stdout, stderr } = spawnSync(process.execPath, ['--import', old, bin, '--version'], {
    encoding: 'utf8',
  })
  assert.deepEqual([status, stdout], [1, ''])
  assert.match(stderr, /^Rung needs Node 22\.18 or newer, and this is Node 20\.20\.2\..*\n$/)
})
