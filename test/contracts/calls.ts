import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { Type } from 'typebox'
import { type CallHandlers, type CallsContract, type CallsOf, defineCalls } from '../../src/app/calls.ts'
import { sleep, systemClock } from '../../src/kernel/clock.ts'
import { isRungError, RungError } from '../../src/kernel/errors.ts'
import { advance, nowhere } from '../../src/kernel/position.ts'
import { currentScope, runInScope, Scope } from '../../src/kernel/scope.ts'

const Pair = Type.Object({ a: Type.Integer(), b: Type.Integer() })
const Nothing = Type.Object({})
const contract = defineCalls('math', {
  add: { input: Pair, output: Type.Integer() },
  lie: { input: Nothing, output: Type.Integer() },
  keep: { input: Type.Object({ list: Type.Array(Type.Integer()) }), output: Type.Array(Type.Integer()) },
  refuse: { input: Nothing, output: Type.Null() },
  fail: { input: Nothing, output: Type.Null() },
  context: { input: Nothing, output: Type.Any() },
  write: { input: Type.Object({ fails: Type.Boolean() }), output: Type.Null() },
  hang: { input: Nothing, output: Type.Null() },
  pause: { input: Type.Object({ ms: Type.Integer() }), output: Type.Null() },
})

const written = (7n << 64n) + 99n
let kept: readonly number[] | undefined
const handlers: CallHandlers<typeof contract> = {
  add: ({ a, b }) => a + b,
  lie: () => 'no number' as never,
  keep: ({ list }) => {
    kept = list
    return list
  },
  refuse: () => {
    throw new RungError('HTTP_CONFLICT', 'It is taken.', { status: 418, facts: { about: { name: ['taken'] } } })
  },
  fail: () => {
    throw new TypeError('a secret of the implementation')
  },
  context: async () => {
    const scope = currentScope()!
    await scope.recallPosition()
    return {
      traceparent: scope.traceparent,
      seen: String(scope.position.get('main')),
      positionUnknown: scope.positionUnknown,
      principal: scope.principal,
      isLimited: scope.deadlineAt !== Number.POSITIVE_INFINITY,
    }
  },
  write: ({ fails }) => {
    const scope = currentScope()!
    scope.position = advance(scope.position, 'main', written)
    scope.wrote = true
    if (fails) throw new RungError('HTTP_CONFLICT', 'It failed after it had written.')
    return null
  },
  pause: ({ ms }) => sleep(ms).then(() => null),
  hang: () =>
    new Promise((_, reject) => {
      currentScope()!.onCancel(reject)
    }),
}

export type OpenCalls = <C extends CallsContract>(
  contract: C,
  handlers: CallHandlers<C>,
  inTransaction: () => boolean,
) => Promise<{ calls: CallsOf<C>; close(): Promise<void> }>

/** What every way from a caller to a handler keeps, whether they share a process or not. */
export function callsContract(name: string, open: OpenCalls): void {
  describe(`calls contract: ${name}`, () => {
    let calls: CallsOf<typeof contract>
    let close: () => Promise<void>
    let isInTransaction = false
    before(async () => {
      ;({ calls, close } = await open(contract, handlers, () => isInTransaction))
    })
    after(() => close())

    const inScope = <T>(fn: (scope: Scope) => Promise<T>) => {
      const scope = new Scope('request', 'r1', 'GET /')
      return runInScope(scope, () => fn(scope))
    }

    it('returns what the handler returned', async () => {
      const sum: number = await calls.add({ a: 1, b: 2 })
      assert.equal(sum, 3)
    })

    it('checks the input and the output against their schemas', async () => {
      await assert.rejects(
        calls.add({ a: 1, b: 'two' as never }),
        (error) => isRungError(error, 'CALL_INVALID') && /input of math\.add/.test(error.message),
      )
      await assert.rejects(
        calls.lie({}),
        (error) => isRungError(error, 'CALL_INVALID') && /output of math\.lie/.test(error.message),
      )
    })

    it('shares no memory between the caller and the handler', async () => {
      const list = [1, 2]
      const answer = await calls.keep({ list })
      assert.deepEqual(answer, list)
      assert.notEqual(answer, list)
      assert.notEqual(kept, list)
    })

    it('is refused inside a transaction', async () => {
      isInTransaction = true
      await assert.rejects(calls.add({ a: 1, b: 2 }), (error) => isRungError(error, 'CALL_IN_TRANSACTION'))
      isInTransaction = false
    })

    it('brings an error back with its code, message, status and facts', async () => {
      await assert.rejects(calls.refuse({}), (error) => {
        assert.ok(isRungError(error, 'HTTP_CONFLICT'))
        assert.deepEqual([error.message, error.status], ['It is taken.', 418])
        assert.deepEqual(error.facts, { about: { name: ['taken'] } })
        return true
      })
    })

    it('brings nothing of an unexpected error back but that there was one', async () => {
      await assert.rejects(
        calls.fail({}),
        (error) => isRungError(error, 'HTTP_INTERNAL') && !error.message.includes('secret'),
      )
    })

    it('takes the trace, the position, the principal and the deadline of the caller along', async () => {
      const seen = await inScope((scope) => {
        scope.traceparent = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01'
        scope.position = advance(nowhere, 'main', 5n)
        scope.principal = { id: 'p1', plan: 'pro' }
        scope.deadlineAt = systemClock.ticks() + 60_000
        return calls.context({})
      })
      assert.deepEqual(seen, {
        traceparent: '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01',
        seen: '5',
        positionUnknown: false,
        principal: { id: 'p1', plan: 'pro' },
        isLimited: true,
      })
    })

    it('lets the handler know a position that lies in a record', async () => {
      const seen = await inScope((scope) => {
        scope.recall = async () => {
          scope.position = advance(scope.position, 'main', 6n)
        }
        return calls.context({})
      })
      assert.equal(seen.seen, '6')
    })

    for (const fails of [false, true]) {
      it(`brings back what was written by a handler that ${fails ? 'failed' : 'returned'}`, async () => {
        const scope = await inScope(async (own) => {
          own.repeatable = true
          await calls.write({ fails }).catch((error) => assert.ok(fails && isRungError(error, 'HTTP_CONFLICT')))
          return own
        })
        assert.equal(scope.position.get('main'), written)
        assert.ok(scope.wrote)
      })
    }

    it('has time if its caller has no limit', async () => {
      assert.equal(await calls.pause({ ms: 20 }), null)
    })

    it('ends when its caller is cancelled', async () => {
      const gone = new RungError('HTTP_CLIENT_GONE', 'gone')
      await inScope(async (scope) => {
        const hanging = calls.hang({})
        setImmediate(() => scope.cancel(gone))
        await assert.rejects(hanging, (error) => isRungError(error, 'HTTP_CLIENT_GONE'))
      })
    })
  })
}
