import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { Type } from 'typebox'
import { defineCalls } from '../../src/app/calls.ts'
import { defineApp } from '../../src/app/define-app.ts'
import { type AnyModule, defineModule } from '../../src/app/define-module.ts'
import { isRungError } from '../../src/kernel/errors.ts'

const module = (name: string, needs: { reads?: string[] } = {}) => defineModule({ name, owner: 'team', ...needs })

const invalid = (error: unknown) => isRungError(error, 'APP_INVALID')

describe('defineApp', () => {
  it('puts each module after those it needs', () => {
    const exposing = (name: string) => {
      const exposes = defineCalls(name, { ping: { input: Type.Null(), output: Type.Null() } })
      return { name, owner: 'team', exposes, calls: () => ({ ping: () => null }) }
    }
    const base = exposing('base')
    const middle = defineModule({ ...exposing('middle'), uses: { base: base.exposes } })
    const top = defineModule({ name: 'top', owner: 'team', uses: { middle: middle.exposes! }, reads: ['base'] })
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
  const ping = { input: Type.Null(), output: Type.Null() }
  const calls = () => ({ ping: () => null })
  const exposes = defineCalls('a', { ping })
  const wrongCalls: [what: string, modules: AnyModule[]][] = [
    ['calls of a module that is missing', [defineModule({ name: 'b', owner: 't', uses: { a: exposes } })]],
    [
      'another contract than the one that is exposed',
      [
        defineModule({ name: 'a', owner: 't', exposes, calls }),
        defineModule({ name: 'b', owner: 't', uses: { a: defineCalls('a', { ping }) } }),
      ],
    ],
    ['a contract that nothing answers', [defineModule({ name: 'a', owner: 't', exposes })]],
    ['the contract of another module', [defineModule({ name: 'b', owner: 't', exposes, calls })]],
  ]
  for (const [what, modules] of wrongCalls) wrong.push([what, () => defineApp({ name: 'shop', modules })])
  for (const [what, define] of wrong) it(`refuses ${what}`, () => void assert.throws(define, invalid))
})
