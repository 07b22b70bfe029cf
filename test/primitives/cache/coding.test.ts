import assert from 'node:assert/strict'
import { test } from 'node:test'
import { nowhere } from '../../../src/kernel/position.ts'
import { decode, encode } from '../../../src/primitives/cache/coding.ts'
import type { SharedEntry } from '../../../src/primitives/cache/entry.ts'

const times = { refreshAt: 1_767_225_600_000.5, freshUntil: 1_767_225_700_000, staleUntil: 1_767_225_800_000 }

function entry(value: unknown, about: Partial<SharedEntry> = {}): SharedEntry {
  return { value, bytes: 0, names: [], position: nowhere, seen: undefined, ...times, ...about }
}

test('what is taken from the bytes is what was put there', () => {
  const far = 2n ** 64n - 1n // beyond what a number can hold
  const position = new Map([
    ['app', 0x16_b374_d848n],
    ['a "b"\n=', far],
  ])
  const names = ['m/plain', 'm/with "quotes"', 'm/with\nlines', 'm/ünïcode 🐘']
  for (const value of [
    null,
    0,
    '',
    'ünïcode 🐘',
    [],
    [[1], { of: [2] }],
    { a: { b: null } },
    'large '.repeat(10_000),
  ]) {
    for (const seen of [undefined, new Map([['app', far]]), nowhere]) {
      const decoded = decode(encode(entry(value, { names, position, seen }), 7))!
      const { bytes, ...kept } = decoded.entry
      assert.deepEqual(kept, { value, names, position, seen, ...times })
      assert.equal(decoded.number, 7)
      assert.ok(bytes >= 2 * JSON.stringify(value).length)
    }
  }
})

test('no value is another thing than null', () => {
  const { value } = decode(encode(entry(undefined, { names: ['m/t'] }), 1))!.entry
  assert.equal(value, undefined)
})

test('all of a value is frozen, also one whose names mean something else', () => {
  const { value } = decode(encode(entry(JSON.parse('{"__proto__":{"a":1},"length":2,"list":[[{"b":1}]]}')), 1))!.entry
  const frozen = (part: unknown): boolean =>
    typeof part !== 'object' || part === null || (Object.isFrozen(part) && Object.values(part).every(frozen))
  assert.ok(frozen(value))
  assert.deepEqual(Object.keys(value as object), ['__proto__', 'length', 'list'])
})

test('where the scripts look for them there are the number and the time of the refresh', () => {
  const bytes = encode(entry('large '.repeat(10_000)), 7)
  assert.equal(bytes.readDoubleLE(2), 7)
  assert.equal(bytes.readDoubleLE(10), times.refreshAt)
})

test('what is large is kept small', () => {
  assert.ok(encode(entry('large '.repeat(10_000)), 1).length < 1_000)
})

test('bytes of another version, or damaged, are no entry', () => {
  const bytes = encode(entry({ a: 1 }), 1)
  const former = Buffer.from(bytes)
  former[0] = 1
  const large = encode(entry('large '.repeat(10_000)), 1)
  const torn = [large.subarray(0, -1), bytes.subarray(0, -1), bytes.subarray(0, 20), Buffer.alloc(0)]
  for (const other of [former, ...torn]) assert.equal(decode(other), undefined)
})
