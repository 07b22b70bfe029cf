import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { type TSchema, Type } from 'typebox'
import { type CallSchemas, defineCalls } from '../../src/app/calls.ts'
import { incompatibleCalls } from '../../src/app/compatible.ts'

const appWith = (schemas: CallSchemas) => ({ modules: [{ name: 'm', exposes: defineCalls('m', schemas) }] }) as never
const between = (before: TSchema, next: TSchema, of: 'input' | 'output' = 'output') => {
  const call = (schema: TSchema) => ({ input: Type.Object({}), output: Type.Null(), [of]: schema })
  return incompatibleCalls(appWith({ find: call(before) }), appWith({ find: call(next) }))[0]
}
const Name = Type.Object({ name: Type.String() })

describe('calls of two builds that run beside each other', () => {
  for (const [what, before, next] of [
    ['the same, described otherwise', Name, Type.Object({ name: Type.String({ description: 'of the person' }) })],
    ['one more that may be missing', Name, Type.Object({ name: Type.String(), age: Type.Optional(Type.Integer()) })],
    ['one less that could be missing', Type.Object({ name: Type.String(), age: Type.Optional(Type.Integer()) }), Name],
    ['anything instead of anything', Type.Any(), Type.Unknown()],
    [
      'lists of the same',
      Type.Array(Name),
      Type.Array(Type.Object({ name: Type.String(), more: Type.Optional(Type.Any()) })),
    ],
  ] as const) {
    it(`fit: ${what}`, () => {
      for (const side of ['input', 'output'] as const) assert.equal(between(before, next, side), undefined)
    })
  }

  for (const [what, before, next, why] of [
    [
      'one more that is needed',
      Name,
      Type.Object({ name: Type.String(), age: Type.Integer() }),
      /needs \.age, which the other build may leave out/,
    ],
    ['one less that was needed', Type.Object({ name: Type.String(), age: Type.Integer() }), Name, /needs \.age/],
    ['another type', Name, Type.Object({ name: Type.Integer() }), /has another form at \.name/],
    [
      'another type in a list',
      Type.Array(Name),
      Type.Array(Type.Object({ name: Type.Integer() })),
      /another form at \[\]\.name/,
    ],
    ['one form more', Name, Type.Union([Name, Type.Null()]), /another form/],
    [
      'one more where others are refused',
      Type.Object({}, { additionalProperties: false }),
      Type.Object({ a: Type.Optional(Type.Null()) }),
      /refuses \.a/,
    ],
    ['a narrower number', Type.Integer(), Type.Integer({ minimum: 1 }), /another form/],
  ] as const) {
    it(`do not fit: ${what}`, () => {
      for (const side of ['input', 'output'] as const) {
        const found = between(before, next, side)
        assert.match(found ?? 'fits', why)
        assert.ok(found!.startsWith(`m.find: its ${side}`))
      }
    })
  }

  it('may be new, and not be gone', () => {
    const [none, one] = [appWith({}), appWith({ find: { input: Name, output: Name } })]
    assert.deepEqual(incompatibleCalls(none, one), [])
    assert.match(incompatibleCalls(one, none)[0]!, /^m\.find is gone, and processes of the build before still call it/)
  })
})
