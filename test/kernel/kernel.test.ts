import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { setImmediate as turn } from 'node:timers/promises'
import fc from 'fast-check'
import { freshRun, sleep } from '../../src/kernel/clock.ts'
import { errorCodes, isRungError, RungError } from '../../src/kernel/errors.ts'
import {
  advance,
  covers,
  formatLsn,
  furthest,
  nowhere,
  type Position,
  parseLsn,
  placeAt,
  reaches,
} from '../../src/kernel/position.ts'
import { backoffMs, seededRandom } from '../../src/kernel/random.ts'
import { currentScope, runInScope, Scope } from '../../src/kernel/scope.ts'
import { formatBytes, formatMs, toBytes, toMs } from '../../src/kernel/units.ts'

describe('position', () => {
  const lsn = fc.bigInt({ min: 0n, max: 2n ** 64n - 1n })
  const place = fc.tuple(fc.integer({ min: 0, max: 3 }), lsn).map(([timeline, lsn]) => placeAt(timeline, lsn))
  const position = fc
    .dictionary(fc.constantFrom('a', 'b', 'c'), place)
    .map((entries): Position => new Map(Object.entries(entries)))

  it('reads what Postgres prints, and nothing else', () => {
    fc.assert(fc.property(lsn, (value) => parseLsn(formatLsn(value)) === value))
    assert.equal(formatLsn(parseLsn('16/B374D848')!), '16/B374D848')
    for (const bad of ['', '16', '16/', '/1', 'g/1', '1/2/3', '123456789/0', '-1/2', ' 1/2'])
      assert.equal(parseLsn(bad), undefined)
  })

  it('only grows', () => {
    fc.assert(
      fc.property(position, fc.constantFrom('a', 'b'), place, (before, database, at) => {
        const after = advance(before, database, at)
        const known = before.get(database) ?? 0n
        return after.get(database) === (known > at ? known : at) && advance(after, database, known) === after
      }),
    )
  })

  it('reaches another one only if neither the timeline nor the LSN is less', () => {
    assert.ok(reaches(placeAt(2, 5n), placeAt(1, 5n)))
    assert.ok(!reaches(placeAt(2, 4n), placeAt(1, 5n)), 'it may be a place of timeline 2')
    assert.ok(!reaches(placeAt(1, 5n), placeAt(2, 4n)))
  })

  it('is joined with another one to the later of each, so that nobody waits for what an earlier timeline has lost', () => {
    const lost = new Map([['main', placeAt(1, 900n)]])
    const written = new Map([['main', placeAt(2, 5n)]])
    assert.deepEqual([furthest(lost, written), furthest(written, lost)], [written, written])
    fc.assert(
      fc.property(position, position, (a, b) => {
        const both = furthest(a, b)
        return [...a, ...b].every(([name, place]) => both.get(name)! >= place) && covers(both, both)
      }),
    )
  })

  it('does not change when there is nothing new', () => {
    const at = advance(nowhere, 'main', 5n)
    assert.equal(advance(at, 'main', 5n), at)
    assert.equal(advance(at, 'main', 4n), at)
    assert.equal(covers(nowhere, at), false)
    assert.equal(covers(at, nowhere), true)
  })
})

describe('units', () => {
  it('are read', () => {
    assert.deepEqual(
      [toMs('250ms'), toMs('10s'), toMs('5m'), toMs('2h'), toMs('7d'), toMs(42)],
      [250, 10_000, 300_000, 7_200_000, 604_800_000, 42],
    )
    assert.deepEqual([toBytes('1MiB'), toBytes('512KiB'), toBytes(7)], [1_048_576, 524_288, 7])
  })

  it('are refused where they are none', () => {
    for (const bad of ['5', 's', '-1s', '5 weeks', 'NaNs', ''])
      assert.throws(
        () => toMs(bad as '5s'),
        (error) => isRungError(error, 'CONFIG_INVALID'),
      )
    for (const bad of [-1, Number.NaN, Number.POSITIVE_INFINITY])
      assert.throws(
        () => toBytes(bad),
        (error) => isRungError(error, 'CONFIG_INVALID'),
      )
  })

  it('are printed for people', () => {
    assert.deepEqual(
      [formatMs(0.5), formatMs(12.4), formatMs(61_500), formatMs(3_700_000)],
      ['0.50 ms', '12 ms', '1m 2s', '1h 1m'],
    )
    assert.deepEqual([formatBytes(5), formatBytes(1536), formatBytes(50 * 1024 ** 2)], ['5 B', '1.5 KiB', '50 MiB'])
  })
})

describe('random', () => {
  it('of one seed is one sequence', () => {
    const take = (seed: number) => Array.from({ length: 5 }, seededRandom(seed))
    assert.deepEqual(take(7), take(7))
    assert.notDeepEqual(take(7), take(8))
    fc.assert(fc.property(fc.integer(), (seed) => take(seed).every((value) => value >= 0 && value < 1)))
  })

  it('spreads a backoff over all of its time, below its cap', () => {
    assert.equal(
      backoffMs(3, 10, 1_000, () => 0.5),
      40,
    )
    assert.equal(
      backoffMs(30, 10, 1_000, () => 0.999),
      999,
    )
    assert.equal(
      backoffMs(0, 10, 1_000, () => 0),
      0,
    )
  })
})

describe('scope', () => {
  it('travels with the work', async () => {
    const scope = new Scope('task', 's1', 'test')
    const seen = await runInScope(scope, async () => {
      await new Promise(setImmediate)
      return currentScope()
    })
    assert.equal(seen, scope)
    assert.equal(currentScope(), undefined)
  })

  it('is cancelled once, and tells whoever asked, also those who come later', () => {
    const scope = new Scope('task', 's2', 'test')
    const first = new Error('first')
    const heard: unknown[] = []
    const forget = scope.onCancel(() => heard.push('forgotten'))
    forget()
    scope.onCancel((reason) => heard.push(reason))
    scope.cancel(first)
    scope.cancel(new Error('second'))
    assert.deepEqual(heard, [first])
    assert.equal(scope.cancelled, first)
    assert.equal(scope.signal.reason, first)
  })
})

describe('errors', () => {
  it('keep code, status, cause and facts', () => {
    const cause = new Error('why')
    const error = new RungError('DATA_UNIQUE', 'taken', { cause, facts: { constraint: 'x' } })
    assert.deepEqual([error.code, error.status, error.cause, error.facts.constraint], ['DATA_UNIQUE', 409, cause, 'x'])
    assert.ok(
      error instanceof Error &&
        isRungError(error, 'DATA_UNIQUE') &&
        !isRungError(error, 'DATA_VALUE') &&
        !isRungError(cause),
    )
  })

  it('have statuses of HTTP', () => {
    for (const [code, { status, title }] of Object.entries(errorCodes))
      assert.ok(status >= 400 && status < 600 && title.length > 5, code)
  })
})

describe('freshRun', () => {
  it('returns to callers during a run the next one, which they share, and goes on after a failure', async () => {
    const gates: PromiseWithResolvers<number>[] = []
    const look = freshRun(() => {
      const gate = Promise.withResolvers<number>()
      gates.push(gate)
      return gate.promise
    })
    const first = look()
    const [second, third] = [look(), look()]
    assert.equal(gates.length, 1, 'runs do not overlap')
    gates[0]!.reject(new Error('no answer'))
    await assert.rejects(first, /no answer/)
    await turn()
    assert.equal(gates.length, 2)
    const fourth = look()
    gates[1]!.resolve(2)
    assert.deepEqual(await Promise.all([second, third]), [2, 2])
    await turn()
    gates[2]!.resolve(3)
    assert.equal(await fourth, 3)
    assert.equal(gates.length, 3)
  })
})

describe('sleep', () => {
  it('ends early when told', async () => {
    const abort = new AbortController()
    const reason = new Error('enough')
    const sleeping = sleep(600_000, abort.signal)
    abort.abort(reason)
    await assert.rejects(sleeping, reason)
    await assert.rejects(sleep(1, abort.signal), reason)
  })
})
