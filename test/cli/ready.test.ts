import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import path from 'node:path'
import { test } from 'node:test'
import { noteProof } from '../../src/cli/proved.ts'
import { ledgerApp, type Scratch, withScratch } from '../support/process.ts'

async function rung({ launch, dir }: Scratch, ...args: string[]) {
  const command = launch({ command: [...args, ledgerApp, '--json'], cwd: dir })
  const { code } = await command.exited
  return { code, view: JSON.parse(command.stdout()) }
}

test('rung ready looks at the app that runs, and rung report writes a page about it', () =>
  withScratch(async (scratch) => {
    const before = await rung(scratch, 'ready')
    const stateOf = (view: { lines: { name: string; state: string }[] }, name: string) =>
      view.lines.find((line) => line.name === name)?.state
    assert.equal(before.code, 2, 'there is not even a database')
    assert.deepEqual(
      ['schema', 'stateless', 'proof', 'backup'].map((name) => stateOf(before.view, name)),
      ['unknown', 'yes', 'no', 'no'],
    )
    await scratch.start()
    await noteProof(scratch.dataDir, { rung: '1k', held: true, wrote: true })
    const { code, view } = await rung(scratch, 'ready')
    assert.deepEqual([code, view.rung, view.to], [2, '1k', '10k'])
    assert.deepEqual(
      ['schema', 'stateless', 'proof', 'load', 'calm'].map((name) => stateOf(view, name)),
      ['yes', 'yes', 'yes', 'no', 'yes'],
    )
    assert.equal(view.yes, view.lines.filter(({ state }: { state: string }) => state === 'yes').length)
    const highest = await rung(scratch, 'ready', '1m')
    assert.equal(stateOf(highest.view, 'rung'), 'no')

    const file = path.join(scratch.dir, 'report.md')
    const report = await rung(scratch, 'report', '--out', file)
    assert.deepEqual([report.code, report.view.app, report.view.ready.yes], [0, 'ledger', view.yes])
    assert.match(readFileSync(file, 'utf8'), /^# ledger at rung 1k, 20\d\d-\d\d-\d\d\n[\s\S]*- ledger: tests\n$/)
    const nowhere = await rung(scratch, 'report', '--out', path.join(file, 'report.md'))
    assert.equal(nowhere.view.error.code, 'COMMAND_INVALID')
  }))
