import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { after, before, describe, it } from 'node:test'
import type { Database } from '../../src/primitives/data/contract.ts'
import { createData, type Data } from '../../src/primitives/data/data.ts'
import { sqlState } from '../../src/primitives/data/errors.ts'
import { expectationFailed, type Riding } from '../../src/primitives/data/rides.ts'
import type { Sql, SqlTag } from '../../src/primitives/data/sql.ts'
import type { Holding, Records, Reserved } from '../../src/primitives/idempotency/contract.ts'
import { until } from '../support/process.ts'

const leaseMs = 60_000
const keepMs = 60_000
const brief = 30
const answer = { status: 201, headers: { 'content-type': 'text/plain', link: ['a', 'b'] }, body: randomBytes(64) }

interface WithStep extends SqlTag {
  step(statement: Sql): void
}

/** What every adapter of the idempotency contract keeps. `open` gives one on a fresh database. */
export function idempotencyContract(name: string, open: () => Promise<{ records: Records; database: Database }>): void {
  describe(`idempotency contract: ${name}`, () => {
    let records: Records
    let database: Database
    let data: Data<WithStep>
    before(async () => {
      ;({ records, database } = await open())
      const extend = (riding: Riding) => ({
        step: (statement: Sql) => riding.ride(() => [{ statement }]),
      })
      data = createData<WithStep>(database, { extend }).forModule('m')
    })
    after(() => database.close())

    function fresh() {
      const ask = { key: randomBytes(32), fingerprint: randomBytes(32), leaseMs, keepMs }
      return {
        ask,
        reserve: (more: Partial<typeof ask> = {}) => records.reserve({ ...ask, ...more }),
        hold: async (more: Partial<typeof ask> = {}): Promise<Holding & { steps: readonly Uint8Array[] }> => {
          const reserved = await records.reserve({ ...ask, ...more })
          assert.ok(reserved.state === 'held', reserved.state)
          return { key: ask.key, token: reserved.token, steps: reserved.steps }
        },
      }
    }
    const step = (held: Holding, text: string) => data.write((tx) => tx.step(records.step(held, Buffer.from(text))))
    const texts = (steps: readonly Uint8Array[]) => steps.map((bytes) => Buffer.from(bytes).toString())
    const isFenced = (error: unknown) => sqlState(error) === expectationFailed
    const lapsed = (take: () => Promise<Reserved>) =>
      until(async () => {
        const reserved = await take()
        return reserved.state === 'held' && reserved
      }, 'its lease has ended')

    it('gives a key to one of many', async () => {
      const one = fresh()
      const all = await Promise.all(Array.from({ length: 20 }, () => one.reserve()))
      assert.equal(all.filter(({ state }) => state === 'held').length, 1)
      for (const other of all.filter((reserved) => reserved.state !== 'held')) {
        assert.ok(other.state === 'in-flight' && other.waitMs > 0 && other.waitMs <= leaseMs, JSON.stringify(other))
      }
    })

    it('keeps keys apart', async () => {
      const [a, b] = [fresh(), fresh()]
      const tokens = [(await a.hold()).token, (await b.hold()).token]
      assert.notEqual(tokens[0], tokens[1])
    })

    it('knows another payload: while it runs, and when it is answered', async () => {
      const one = fresh()
      const held = await one.hold()
      assert.equal((await one.reserve({ fingerprint: randomBytes(32) })).state, 'other-payload')
      await records.finish(held, answer)
      assert.equal((await one.reserve({ fingerprint: randomBytes(32) })).state, 'other-payload')
    })

    for (const [what, body] of [
      ['bytes', answer.body],
      ['no bytes', Buffer.alloc(0)],
      ['nothing', null],
    ] as const) {
      it(`gives an answer of ${what} again as it was`, async () => {
        const one = fresh()
        assert.equal(await records.finish(await one.hold(), { ...answer, body }), true)
        const again = await one.reserve()
        assert.ok(again.state === 'answered')
        assert.deepEqual(
          { ...again.answer, body: again.answer.body && Buffer.from(again.answer.body) },
          { ...answer, body },
        )
      })
    }

    it('keeps a step with its transaction, and not without', async () => {
      const one = fresh()
      const held = await one.hold()
      await step(held, 'first')
      await assert.rejects(
        data.write(async (tx) => {
          tx.step(records.step(held, Buffer.from('never')))
          throw new Error('rolled back')
        }),
        /rolled back/,
      )
      await step(held, 'second')
      await records.release(held)
      const next = await one.hold()
      assert.deepEqual(texts(next.steps), ['first', 'second'])
      await step(next, 'third')
      await records.release(next)
      assert.deepEqual(texts((await one.hold()).steps), ['first', 'second', 'third'])
    })

    it('is free again after a release', async () => {
      const one = fresh()
      await records.release(await one.hold())
      assert.deepEqual((await one.hold({ fingerprint: randomBytes(32) })).steps, [])
    })

    it('stays with its payload where steps have been committed', async () => {
      const one = fresh()
      const held = await one.hold()
      await step(held, 'done')
      await records.release(held)
      assert.equal((await one.reserve({ fingerprint: randomBytes(32) })).state, 'other-payload')
    })

    it('can be taken over when the lease has ended, with what was committed', async () => {
      const one = fresh()
      const held = await one.hold({ leaseMs: brief })
      await step(held, 'done')
      const taken = await lapsed(() => one.reserve())
      assert.ok(taken.token > held.token)
      assert.deepEqual(texts(taken.steps), ['done'])
    })

    it('is held on to by extending', async () => {
      const one = fresh()
      const held = await one.hold({ leaseMs: 1_000 })
      await records.extend([held, { key: randomBytes(32), token: 1 }], leaseMs)
      const other = await one.reserve()
      assert.ok(other.state === 'in-flight' && other.waitMs > 1_000)
    })

    it('nothing of the one before counts after a takeover', async () => {
      const one = fresh()
      const old = await one.hold({ leaseMs: brief })
      const taken = await lapsed(() => one.reserve({ leaseMs: brief }))
      await assert.rejects(step(old, 'late'), isFenced)
      assert.equal(await records.finish(old, answer), false)
      await records.release(old)
      await records.extend([old], leaseMs)
      const next = await lapsed(() => one.reserve())
      assert.deepEqual(next.steps, [])
      assert.notEqual(next.token, taken.token)
    })

    it('nothing counts after a release, also when the record is made anew', async () => {
      const one = fresh()
      const old = await one.hold()
      await records.release(old)
      await assert.rejects(step(old, 'late'), isFenced)
      await one.hold()
      await assert.rejects(step(old, 'late'), isFenced)
      assert.equal(await records.finish(old, answer), false)
    })

    it('nothing changes an answer', async () => {
      const one = fresh()
      const held = await one.hold()
      await records.finish(held, answer)
      assert.equal(await records.finish(held, { ...answer, status: 200 }), false)
      await assert.rejects(step(held, 'late'), isFenced)
      await records.release(held)
      const again = await one.reserve()
      assert.ok(again.state === 'answered' && again.answer.status === 201)
    })

    it('a takeover waits for a commit that is under way', async () => {
      const one = fresh()
      const held = await one.hold({ leaseMs: brief })
      let taking: Promise<Reserved> | undefined
      await data.write(async (tx) => {
        await tx`${records.step(held, Buffer.from('done'))}`
        await until(() => true, 'a turn has passed')
        await tx`select pg_sleep(${(brief * 2) / 1000})` // the lease ends while the row is held
        taking = one.reserve()
      })
      const taken = await taking!
      assert.ok(taken.state === 'held')
      assert.deepEqual(texts(taken.steps), ['done'])
    })

    it('notes other databases while it is held, and stays with its payload then', async () => {
      const one = fresh()
      const held = await one.hold()
      assert.equal(await records.note(held, 'billing'), true)
      await records.release(held)
      assert.equal(await records.note(held, 'late'), false)
      assert.equal((await one.reserve({ fingerprint: randomBytes(32) })).state, 'other-payload')
      const next = await one.reserve()
      assert.ok(next.state === 'held')
      assert.deepEqual([next.steps, next.databases], [[], ['billing']])
    })

    it('has another life when it begins anew, and the same one when it is taken over', async () => {
      const one = fresh()
      const lives: string[] = []
      const hold = async (more = {}) => {
        const reserved = await lapsed(() => one.reserve(more))
        assert.ok(reserved.state === 'held')
        lives.push(reserved.life)
        return { key: one.ask.key, token: reserved.token }
      }
      await records.release(await hold())
      const first = await hold()
      await records.note(first, 'billing')
      await records.release(first)
      await records.finish(await hold(), answer)
      assert.equal(lives[1], lives[2])
      const expiring = fresh()
      const old = await expiring.reserve({ keepMs: 1 })
      assert.ok(old.state === 'held')
      await records.note({ key: expiring.ask.key, token: old.token }, 'billing')
      await records.finish({ key: expiring.ask.key, token: old.token }, answer)
      const anew = await lapsed(() => expiring.reserve())
      assert.ok(anew.state === 'held')
      assert.deepEqual(anew.databases, [])
      assert.equal(new Set([...lives, old.life, anew.life]).size, 4)
    })

    it('goes to the higher token of another database at once, with what was committed', async () => {
      const { key, ...rest } = fresh().ask
      const [lower, higher] = [
        { key, token: 5 },
        { key, token: 7 },
      ]
      assert.deepEqual(await records.reserveUnder(lower, rest), [])
      await step(lower, 'done')
      assert.deepEqual(texts((await records.reserveUnder(higher, rest))!), ['done'])
      assert.equal(await records.reserveUnder(lower, rest), undefined)
      await assert.rejects(step(lower, 'late'), isFenced)
      await step(higher, 'more')
      assert.deepEqual(texts((await records.reserveUnder({ key, token: 8 }, rest))!), ['done', 'more'])
    })

    it('forgets what has expired, and only that, so many at a time', async () => {
      while ((await records.prune(1_000)) > 0);
      const [kept, ...expired] = Array.from({ length: 6 }, fresh)
      await records.finish(await kept!.hold(), answer)
      for (const one of expired) await records.finish(await one.hold({ keepMs: 1 }), answer)
      const running = fresh()
      await running.hold({ keepMs: 1 })
      const pruned = await until(async () => (await records.prune(3)) || undefined, 'they have expired')
      assert.equal(pruned + (await records.prune(3)) + (await records.prune(3)), 5)
      assert.equal((await kept!.reserve()).state, 'answered')
      assert.equal((await running.reserve()).state, 'in-flight')
    })

    it('begins anew with what has expired and was not yet forgotten', async () => {
      const one = fresh()
      const held = await one.hold({ keepMs: 1 })
      await step(held, 'old')
      await records.finish(held, answer)
      const next = await lapsed(() => one.reserve({ fingerprint: randomBytes(32) }))
      assert.deepEqual(next.steps, [])
      await assert.rejects(step(held, 'late'), isFenced)
    })
  })
}
