import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { test } from 'node:test'
import { pathToFileURL } from 'node:url'
import { codeFrame, faultOf } from '../../src/kernel/fault.ts'

test('the frame marks the place in TypeScript, whose types Node removes in place', async () => {
  const dir = mkdtempSync(path.join(tmpdir(), 'rung-test-'))
  try {
    const file = path.join(dir, 'a b.ts')
    const source = [
      'interface Order<Line extends object = { id: number }> {',
      '  lines: readonly Line[]',
      '}',
      '',
      'export function total(order: Order | undefined, tax: number = 1): number {',
      "  if (order === undefined) throw new RangeError('no order')",
      '  return order.lines.length * tax',
      '}',
    ].join('\n')
    writeFileSync(file, source)
    const { total } = await import(pathToFileURL(file).href)
    let thrown: unknown
    try {
      total()
    } catch (error) {
      thrown = error
    }
    const { at, frame, errors } = faultOf(thrown)
    assert.equal(at, `${file}:6:34`)
    assert.equal(
      frame,
      [
        '  3 | }',
        '  4 |',
        '  5 | export function total(order: Order | undefined, tax: number = 1): number {',
        "> 6 |   if (order === undefined) throw new RangeError('no order')",
        '    |                                  ^',
        '  7 |   return order.lines.length * tax',
        '  8 | }',
      ].join('\n'),
    )
    assert.equal(errors[0]?.name, 'RangeError')
  } finally {
    rmSync(dir, { recursive: true })
  }
})

test('the frame marks where a file cannot be parsed', async () => {
  const dir = mkdtempSync(path.join(tmpdir(), 'rung-test-'))
  try {
    for (const [name, source, mark] of [
      ['comma.ts', 'export const one = {\n  x: 1,,\n}\n', '2:8'],
      ['end.ts', 'export default {', '1:1'],
      ['enum.ts', 'const one = 1\nenum Color { Red }\n', '2:1'],
      ['export.ts', "import { gone } from './one.ts'\n", '1:10'],
    ] as const) {
      writeFileSync(path.join(dir, 'one.ts'), 'export const one = 1\n')
      const file = path.join(dir, name)
      writeFileSync(file, source)
      const error = await import(pathToFileURL(file).href).catch((thrown) => thrown)
      const { at, frame } = faultOf(error)
      assert.equal(at, `${file}:${mark}`)
      assert.match(frame!, /^> /m)
    }
  } finally {
    rmSync(dir, { recursive: true })
  }
})

test('anything that is thrown can be described', () => {
  const hostile = new Error('x')
  for (const name of ['message', 'stack', 'name', 'cause', 'code'])
    Object.defineProperty(hostile, name, {
      get() {
        throw new Error('no')
      },
    })
  const circular = new Error('round')
  circular.cause = circular
  const cyclic: Record<string, unknown> = {}
  cyclic.self = cyclic
  const proxy = new Proxy(new Error('p'), {
    get() {
      throw new Error('no')
    },
    getPrototypeOf() {
      throw new Error('no')
    },
  })
  for (const thrown of [
    undefined,
    null,
    0,
    'text',
    Symbol('s'),
    1n,
    () => 1,
    cyclic,
    hostile,
    circular,
    proxy,
    Object.create(null),
  ]) {
    const { errors } = faultOf(thrown)
    assert.ok(errors.length >= 1 && errors.length <= 5)
    assert.equal(typeof errors[0]!.message, 'string')
    JSON.stringify(errors)
  }
  assert.equal(faultOf('text').errors[0]!.message, 'text')
  assert.equal(faultOf(new Error('m'.repeat(100_000))).errors[0]!.message.length, 2_000)
})

test('a place that cannot be shown has no frame', () => {
  assert.equal(codeFrame('/nowhere/file.ts:1:1'), undefined)
  assert.equal(codeFrame(`${import.meta.filename}:100000:1`), undefined)
  assert.equal(codeFrame('unknown'), undefined)
})
