import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import type { AddressInfo } from 'node:net'
import { createServer } from 'node:net'
import path from 'node:path'
import { test } from 'node:test'
import { bin, ledgerApp, until, withScratch } from '../support/process.ts'

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
    await first.saw(/Creating a database in data/)
    assert.doesNotMatch(first.stderr().split('Creating')[0]!, /migrated/)
    await first.stop()
    const second = launch({ command })
    await until(() => second.stdout().includes('Ctrl-C'), 'the second one runs')
    await second.stop()
    assert.doesNotMatch(second.stderr(), /Creating/)
  }))

test('an old Node is told which one is needed, in a sentence', () => {
  const old = `data:text/javascript,Object.defineProperty(process.versions, 'node', { value: '20.20.2' })`
  const { status, stdout, stderr } = spawnSync(process.execPath, ['--import', old, bin, '--version'], {
    encoding: 'utf8',
  })
  assert.deepEqual([status, stdout], [1, ''])
  assert.match(stderr, /^Rung needs Node 22\.18 or newer, and this is Node 20\.20\.2\..*\n$/)
})
