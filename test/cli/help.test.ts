import assert from 'node:assert/strict'
import { test } from 'node:test'
import { main } from '../../src/cli/main.ts'

async function rung(...args: string[]) {
  const lines: string[] = []
  const code = await main(args, {}, '/', {
    line: (text = '') => void lines.push(...text.split('\n')),
    note: (text) => void lines.push(text),
    json: () => {},
  })
  return { code, lines }
}

const overview = await rung('--help')
const commands = overview.lines.flatMap((line) => /^ {2}(\w+) {2,}\S/.exec(line)?.[1] ?? [])

test('rung --help lists the commands', () => {
  assert.equal(overview.code, 0)
  assert.ok(commands.length >= 17)
  assert.deepEqual(
    overview.lines.filter((line) => line.length > 80),
    [],
  )
})

for (const command of commands) {
  test(`rung ${command} --help has an example and --json, in 80 columns`, async () => {
    const { code, lines } = await rung(command, '--help')
    assert.equal(code, 0)
    assert.ok(lines.some((line) => /^Examples?:$/.test(line)))
    assert.ok(lines.some((line) => line.includes('--json')))
    assert.deepEqual(
      lines.filter((line) => line.length > 80),
      [],
    )
  })
}
