import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { Type } from 'typebox'
import { call, localCalls } from '../../src/app/calls.ts'
import { defineApp } from '../../src/app/define-app.ts'
import { defineModule } from '../../src/app/define-module.ts'
import { isRungError } from '../../src/kernel/errors.ts'

const module = (name: string, needs: { uses?: Record<string, never>; reads?: string[] } = {}) =>
  defineModule({ name, owner: 'team', ...needs })

const invalid = (error: unknown) => isRungError(error, 'APP_INVALID')

describe('defineApp', () => {
  it('puts each module after those it needs', () => {
    const base = module('base')
    const middle = defineModule({ name: 'middle', owner: 'team', uses: { base } })
    const top = defineModule({ name: 'top', owner: 'team', uses: { middle }, reads: ['base'] })
    const app = defineApp({ name: 'shop', modules: [top, middle, base] })
    assert.deepEqual(
      app.modules.map(({ name }) => name),
      ['base', 'middle', 'top'],
    )
  })

  const wrong: [what: string, define: () => unknown][] = [
    ['a name that is none', () => defineApp({ name: 'My Shop', modules: [] })],
    ['a module name that is none', () => defineApp({ name: 'shop', modules: [module('a b')] })],
    ['a name of the system', () => defineApp({ name: 'shop', modules: [module('rung')] })],
    ['two modules of one name', () => defineApp({ name: 'shop', modules: [module('a'), module('a')] })],
    ['no owner', () => defineApp({ name: 'shop', modules: [defineModule({ name: 'a', owner: '' })] })],
    ['a module that is missing', () => defineApp({ name: 'shop', modules: [module('a', { reads: ['b'] })] })],
    [
      'a circle',
      () => defineApp({ name: 'shop', modules: [module('a', { reads: ['b'] }), module('b', { reads: ['a'] })] }),
    ],
  ]
  for (const [what, define] of wrong) it(`refuses ${what}`, () => void assert.throws(define, invalid))
})

describe('calls', () => {
  const Pair = Type.Object({ a: Type.Integer(), b: Type.Integer() })
  const calls = {
    add: call(Pair, Type.Integer(), ({ a, b }) => a + b),
    lie: call(Type.Object({}), Type.Integer(), () => 'no number' as never),
    keep: call(Type.Object({ list: Type.Array(Type.Integer()) }), Type.Array(Type.Integer()), ({ list }) => list),
  }
  const free = { checked: true, inTransaction: () => false }

  it('are typed, and run', async () => {
    const { add } = localCalls('math', calls, free)
    const sum: number = await add({ a: 1, b: 2 })
    assert.equal(sum, 3)
  })

  it('check what goes in and what comes out', async () => {
    const { add, lie } = localCalls('math', calls, free)
    await assert.rejects(
      add({ a: 1, b: 'two' as never }),
      (error) => isRungError(error, 'CALL_INVALID') && /input of math\.add/.test(error.message),
    )
    await assert.rejects(
      lie({}),
      (error) => isRungError(error, 'CALL_INVALID') && /output of math\.lie/.test(error.message),
    )
  })

  it('share no memory, as over a wire', async () => {
    const { keep } = localCalls('math', calls, free)
    const list = [1, 2]
    const answer = await keep({ list })
    assert.deepEqual(answer, list)
    assert.notEqual(answer, list)
  })

  it('are refused inside a transaction', async () => {
    const { add } = localCalls('math', calls, { checked: false, inTransaction: () => true })
    await assert.rejects(add({ a: 1, b: 2 }), (error) => isRungError(error, 'CALL_IN_TRANSACTION'))
  })
})
