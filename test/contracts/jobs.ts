import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { after, before, describe, it } from 'node:test'
import { isRungError } from '../../src/kernel/errors.ts'
import type { Database } from '../../src/primitives/data/contract.ts'
import { createData, type Data } from '../../src/primitives/data/data.ts'
import type { Riding } from '../../src/primitives/data/rides.ts'
import type { SqlTag } from '../../src/primitives/data/sql.ts'
import type { Queue } from '../../src/primitives/jobs/contract.ts'
import type { Ask, Item, NewItem, Outcome } from '../../src/primitives/jobs/items.ts'
import { until } from '../support/process.ts'

export interface QueueUnderTest {
  queue: Queue
  database: Database
  close(): Promise<void>
}

const leaseMs = 60_000

/** What every adapter of the jobs' contract keeps. `open` gives one on a fresh database. */
export function jobsContract(name: string, open: () => Promise<QueueUnderTest>): void {
  describe(`jobs contract: ${name}`, () => {
    let under: QueueUnderTest
    let queue: Queue
    let data: Data<SqlTag & { push(...items: NewItem[]): void }>
    before(async () => {
      under = await open()
      queue = under.queue
      const push = (riding: Riding) => ({ push: (...items: NewItem[]) => riding.ride(() => queue.push(items)) })
      data = createData<SqlTag & { push(...items: NewItem[]): void }>(under.database, { extend: push }).forModule('m')
    })
    after(() => under.close())

    /** A queue of its own for each test. */
    function fresh(changes: Partial<Ask> = {}) {
      const of = `q-${randomUUID()}`
      const ask: Ask = { queue: of, n: 10, ordered: false, ...changes }
      return {
        of,
        item: (more: Partial<NewItem> = {}): NewItem => ({
          queue: of,
          name: 'n',
          payload: '{"a":1}',
          priority: 1,
          delayMs: 0,
          attemptsMax: 3,
          keep: false,
          context: {},
          ...more,
        }),
        push: (...items: NewItem[]) => data.write((tx) => tx.push(...items)),
        claim: (more: Partial<Ask> = {}, ms = leaseMs) => queue.claim([{ ...ask, ...more }], 'w', ms),
        list: () => queue.list({ queues: [of], limit: 100 }),
      }
    }
    const settle = (items: readonly Item[], outcome: { kind: Outcome['kind'] } & Record<string, unknown>) =>
      queue.settle(items.map(({ id, token }) => ({ id, token, ...outcome }) as Outcome))
    const payloads = (items: readonly Item[]) => items.map(({ payload }) => payload)

    it('gives an item after the commit, and none of a transaction that failed', async () => {
      const q = fresh()
      await assert.rejects(
        data.write(async (tx) => {
          tx.push(q.item())
          throw new Error('no')
        }),
        /no/,
      )
      assert.deepEqual(await q.claim(), [])
      const ref: { id?: number } = {}
      await data.write(async (tx) => {
        tx.push(q.item({ ref, payload: '{"text":"\\u0000 💥 \'"}' }))
        assert.deepEqual(await q.claim(), [], 'seen before its commit')
      })
      const [item] = await q.claim()
      assert.equal(item!.id, ref.id)
      assert.deepEqual(item!.payload, { text: "\0 💥 '" })
      assert.match(item!.place, /^[0-9A-F]+\/[0-9A-F]+\/[0-9A-F]+$/)
    })

    it('does not pass over an item whose transaction commits late', async () => {
      const q = fresh()
      const mayCommit = Promise.withResolvers<void>()
      const written = Promise.withResolvers<void>()
      const late = data.write(async (tx) => {
        await tx`select 1`
        tx.push(q.item({ payload: '"late"' }))
        written.resolve()
        await mayCommit.promise
      })
      await written.promise
      await q.push(q.item({ payload: '"early"' }))
      const first = await q.claim()
      assert.deepEqual(payloads(first), ['early'])
      await settle(first, { kind: 'done' })
      mayCommit.resolve()
      await late
      assert.deepEqual(payloads(await q.claim()), ['late'])
    })

    it('gives the ids of many items in their order', async () => {
      const q = fresh()
      const items = Array.from({ length: 50 }, (_, n) => q.item({ payload: String(n), ref: {} }))
      await q.push(...items)
      const byId = new Map((await q.claim({ n: 100 })).map(({ id, payload }) => [id, payload]))
      assert.deepEqual(
        items.map(({ ref }) => byId.get(ref!.id!)),
        items.map((_, n) => n),
      )
    })

    it('gives each item to one of many who claim at once', async () => {
      const q = fresh()
      await q.push(...Array.from({ length: 300 }, () => q.item()))
      const claims = await Promise.all(Array.from({ length: 12 }, () => q.claim({ n: 40 })))
      const ids = claims.flat().map(({ id }) => id)
      assert.equal(new Set(ids).size, ids.length)
      const rest = (await Promise.all(Array.from({ length: 12 }, () => q.claim({ n: 40 })))).flat()
      assert.equal(new Set([...ids, ...rest.map(({ id }) => id)]).size, 300)
    })

    it('gives the urgent first, and the delayed not before its time', async () => {
      const q = fresh()
      await q.push(
        q.item({ payload: '"low"', priority: 2 }),
        q.item({ payload: '"later"', priority: 0, delayMs: 3_600_000 }),
        q.item({ payload: '"normal"' }),
        q.item({ payload: '"high"', priority: 0 }),
      )
      const order = []
      for (let n = 0; n < 4; n += 1) order.push(...payloads(await q.claim({ n: 1 })))
      assert.deepEqual(order, ['high', 'normal', 'low'])
      assert.equal((await q.list()).filter(({ state }) => state === 'delayed').length, 1)
    })

    it('keeps one item for each unique text, and names it', async () => {
      const q = fresh()
      const refs: { id?: number }[] = [{}, {}, {}]
      await q.push(q.item({ unique: 'u', ref: refs[0] }), q.item({ unique: 'v' }))
      await q.push(q.item({ unique: 'u', ref: refs[1] }))
      const claimed = await q.claim()
      assert.equal(claimed.length, 2)
      assert.equal(refs[1]!.id, refs[0]!.id)
      await settle(claimed, { kind: 'done' })
      await q.push(q.item({ unique: 'u', ref: refs[2] }))
      assert.equal((await q.claim()).length, 1)
      assert.notEqual(refs[2]!.id, refs[0]!.id)
    })

    it('takes back what was held too long, and lets its old holder change nothing', async () => {
      const q = fresh()
      await q.push(q.item({ keep: true }))
      const [old] = await q.claim({}, 1)
      await until(async () => (await queue.reap(60_000)) > 0, 'the lease has ended')
      const [taken] = await q.claim()
      assert.equal(taken!.id, old!.id)
      assert.equal(taken!.failures, 1)
      assert.ok(taken!.token > old!.token)
      for (const outcome of [
        { kind: 'done' },
        { kind: 'cancelled' },
        { kind: 'retry', delayMs: 0, error: 'e' },
        { kind: 'dead', error: 'e' },
        { kind: 'release', delayMs: 0 },
      ] as const) {
        assert.equal((await settle([old!], outcome)).size, 0, outcome.kind)
      }
      assert.deepEqual(await queue.extend([old!], leaseMs), [])
      for (const done of [true, false]) {
        await assert.rejects(data.write(async (tx) => void (await tx`${queue.fence(old!, done)}`)))
      }
      assert.equal((await settle([taken!], { kind: 'done' })).size, 1)
    })

    it('extends what is still held, with its progress, and tells of a cancellation', async () => {
      const q = fresh()
      await q.push(q.item())
      const [item] = await q.claim({}, 1)
      assert.deepEqual(await queue.extend([{ ...item!, progress: { share: 0.5, note: 'half' } }], leaseMs), [
        { id: item!.id, cancelled: false },
      ])
      await queue.reap(60_000)
      const [listed] = await q.list()
      assert.deepEqual([listed!.state, listed!.progress], ['running', { share: 0.5, note: 'half' }])
      assert.equal(await queue.change([item!.id], 'cancel'), 1)
      assert.deepEqual(await queue.extend([item!], leaseMs), [{ id: item!.id, cancelled: true }])
      await settle([item!], { kind: 'cancelled' })
      assert.deepEqual(await q.list(), [])
    })

    it('ends a claim together with a transaction, once', async () => {
      const q = fresh()
      await q.push(q.item())
      const [item] = await q.claim()
      await assert.rejects(
        data.write(async (tx) => {
          await tx`${queue.fence(item!, true)}`
          throw new Error('rolled back')
        }),
      )
      await data.write(async (tx) => void (await tx`${queue.fence(item!, false)}`))
      await data.write(async (tx) => void (await tx`${queue.fence(item!, true)}`))
      await assert.rejects(
        data.write(async (tx) => void (await tx`${queue.fence(item!, true)}`)),
        isRungError,
      )
      assert.deepEqual(await q.list(), [])
    })

    it('tries again later, counts the tries, and knows the dead', async () => {
      const q = fresh()
      await q.push(q.item())
      await settle(await q.claim(), { kind: 'retry', delayMs: 0, error: 'first' })
      await settle(await q.claim(), { kind: 'retry', delayMs: 3_600_000, error: 'second' })
      assert.deepEqual(await q.claim(), [])
      const [waiting] = await q.list()
      assert.deepEqual([waiting!.failures, waiting!.error, waiting!.state], [2, 'second', 'delayed'])
      assert.equal(await queue.change([waiting!.id], 'retry'), 1)
      const claimed = await q.claim()
      assert.equal(claimed[0]!.failures, 2)
      await settle(claimed, { kind: 'dead', error: 'third' })
      assert.equal((await q.list())[0]!.state, 'dead')
      assert.equal((await queue.count()).find((one) => one.queue === q.of)!.dead, 1)
      assert.deepEqual(await q.claim(), [])
      assert.equal(await queue.change([waiting!.id], 'retry'), 1)
      assert.equal((await q.claim())[0]!.failures, 0)
    })

    it('buries what vanishes with its workers again and again', async () => {
      const q = fresh()
      await q.push(q.item({ attemptsMax: 2 }))
      for (let n = 0; n < 2; n += 1) {
        assert.equal((await q.claim({}, 1)).length, 1)
        await until(async () => (await queue.reap(60_000)) > 0, 'the lease has ended')
      }
      assert.deepEqual(await q.claim(), [])
      assert.equal((await q.list())[0]!.state, 'dead')
    })

    it('hands back without counting a try', async () => {
      const q = fresh()
      await q.push(q.item())
      await settle(await q.claim(), { kind: 'release', delayMs: 0 })
      const [again] = await q.claim()
      assert.equal(again!.failures, 0)
    })

    it('keeps ended items that are to be kept', async () => {
      const q = fresh()
      await q.push(q.item({ keep: true }), q.item())
      await settle(await q.claim(), { kind: 'done', progress: { share: 1 } })
      const [kept, ...others] = await q.list()
      assert.deepEqual([kept!.state, kept!.progress, others.length], ['done', { share: 1 }, 0])
    })

    it('cancels what waits', async () => {
      const q = fresh()
      await q.push(q.item())
      const [listed] = await q.list()
      assert.equal(await queue.change([listed!.id], 'cancel'), 1)
      assert.deepEqual(await q.claim(), [])
      assert.equal(await queue.change([listed!.id], 'cancel'), 0)
    })

    it('gives the items of one key one at a time and in order, whoever claims', async () => {
      const q = fresh({ ordered: true })
      const keys = ['a', 'b', 'c', 'd']
      for (let n = 0; n < 10; n += 1) await q.push(...keys.map((key) => q.item({ key, payload: String(n) })))
      const seen = new Map<string, unknown[]>(keys.map((key) => [key, []]))
      const busy = new Set<string>()
      await Promise.all(
        Array.from({ length: 4 }, async () => {
          while ([...seen.values()].some((list) => list.length < 10)) {
            for (const item of await q.claim({ n: 3 })) {
              assert.ok(!busy.has(item.key!), `two items of ${item.key} at once`)
              busy.add(item.key!)
              seen.get(item.key!)!.push(item.payload)
              await under.queue.count() // let others in between
              busy.delete(item.key!)
              await settle([item], { kind: 'done' })
            }
          }
        }),
      )
      for (const list of seen.values())
        assert.deepEqual(
          list,
          Array.from({ length: 10 }, (_, n) => n),
        )
    })

    it('lets a stuck key stop nobody else', async () => {
      const q = fresh({ ordered: true })
      await q.push(...Array.from({ length: 200 }, () => q.item({ key: 'stuck' })))
      const [head] = await q.claim({ n: 1 })
      await settle([head!], { kind: 'retry', delayMs: 3_600_000, error: 'poison' })
      await q.push(q.item({ key: 'other', payload: '"o"' }), q.item({ payload: '"none"' }))
      const claimed = [...(await q.claim({ n: 5 })), ...(await q.claim({ n: 5 }))]
      assert.deepEqual(payloads(claimed).sort(), ['none', 'o'])
    })

    it('takes keys in turn', async () => {
      const q = fresh({ ordered: true })
      await q.push(...['a', 'b', 'c'].flatMap((key) => [q.item({ key }), q.item({ key })]))
      const order = []
      for (let n = 0; n < 6; n += 1) {
        const [item] = await q.claim({ n: 1 })
        order.push(item!.key)
        await settle([item!], { kind: 'done' })
      }
      assert.deepEqual(order, ['a', 'b', 'c', 'a', 'b', 'c'])
    })

    it('holds its bounds for each key and for the whole queue, under many who claim', async () => {
      const q = fresh({ perKeyMax: 2, fleetMax: 5 })
      await q.push(...['a', 'b', 'c', 'd'].flatMap((key) => Array.from({ length: 5 }, () => q.item({ key }))))
      const claimed = (await Promise.all(Array.from({ length: 8 }, () => q.claim({ n: 10 })))).flat()
      assert.equal(claimed.length, 5)
      for (const [key, items] of Map.groupBy(claimed, (item) => item.key)) assert.ok(items.length <= 2, String(key))
      await settle(claimed.slice(0, 3), { kind: 'done' })
      assert.equal((await q.claim()).length, 3)
    })
  })
}
