import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { after, before, describe, it } from 'node:test'
import type { Database } from '../../src/primitives/data/contract.ts'
import { createData, type Data } from '../../src/primitives/data/data.ts'
import type { Riding } from '../../src/primitives/data/rides.ts'
import type { SqlTag } from '../../src/primitives/data/sql.ts'
import { type NewEvent, type Outbox, queueOfGroup } from '../../src/primitives/events/contract.ts'
import type { Queue } from '../../src/primitives/jobs/contract.ts'

export interface OutboxUnderTest {
  outbox: Outbox
  queue: Queue
  database: Database
  /** The queues that `publish` tells of. */
  told(groups: readonly string[]): string[]
  /** Resolves when what was published is in the queues of its groups. */
  settle(): Promise<void>
  close(): Promise<void>
}

/** What every adapter of the events' contract keeps. `open` gives one on a fresh database. */
export function eventsContract(name: string, open: () => Promise<OutboxUnderTest>): void {
  describe(`events contract: ${name}`, () => {
    let under: OutboxUnderTest
    let data: Data<SqlTag & { publish(...events: NewEvent[]): void }>
    let told: ReadonlySet<string>[] = []
    before(async () => {
      under = await open()
      const { outbox } = under
      const extend = (riding: Riding) => ({
        publish: (...events: NewEvent[]) => riding.ride(() => [outbox.publish(events, (groups) => told.push(groups))]),
      })
      data = createData<SqlTag & { publish(...events: NewEvent[]): void }>(under.database, { extend }).forModule('m')
    })
    after(() => under.close())

    const event = (of: string, payload: unknown = {}, key?: string): NewEvent => ({
      name: of,
      payload: JSON.stringify(payload),
      key,
      context: {},
    })
    const publish = async (...events: NewEvent[]) => {
      await data.write((tx) => tx.publish(...events))
      await under.settle()
    }
    const take = async (group: string) => {
      const ask = { queue: queueOfGroup(group), n: 100, ordered: true }
      const all = []
      for (;;) {
        const items = await under.queue.claim([ask], 'w', 60_000)
        if (items.length === 0) return all
        all.push(...items.map(({ name, payload, key }) => ({ name, payload, key })))
        await under.queue.settle(items.map(({ id, token }) => ({ id, token, kind: 'done' })))
      }
    }
    const subscribe = (of: string, ...groups: string[]) =>
      under.outbox.subscribe(groups.map((group) => ({ event: of, group, attemptsMax: 3 })))

    it('delivers to every group that has subscribed, once, and to no other', async () => {
      const [of, a, b, other] = [randomUUID(), randomUUID(), randomUUID(), randomUUID()]
      await subscribe(of, a, b)
      await subscribe(of, a, b) // again, as every start does
      await subscribe('something-else', other)
      told = []
      await publish(event(of, { n: 1 }))
      assert.deepEqual(
        told.map((queues) => [...queues].sort()),
        [under.told([a, b]).sort()],
      )
      for (const group of [a, b]) assert.deepEqual(await take(group), [{ name: of, payload: { n: 1 }, key: null }])
      assert.deepEqual(await take(other), [])
    })

    it('publishes nothing when the transaction fails', async () => {
      const [of, group] = [randomUUID(), randomUUID()]
      await subscribe(of, group)
      await assert.rejects(
        data.write(async (tx) => {
          tx.publish(event(of))
          await tx`select 1 / 0`
        }),
      )
      assert.deepEqual(await take(group), [])
    })

    it('needs nobody to listen', async () => {
      await publish(event(randomUUID()), event(randomUUID()))
    })

    it('keeps the order of a key, also between events of one transaction and of different names', async () => {
      const [one, two, group] = [randomUUID(), randomUUID(), randomUUID()]
      await subscribe(one, group)
      await subscribe(two, group)
      await publish(event(one, 1, 'k'), event(two, 2, 'k'))
      await publish(event(one, 3, 'k'))
      await publish(event(two, 4, 'k'), event(one, 5, 'k'))
      assert.deepEqual(
        (await take(group)).map(({ payload }) => payload),
        [1, 2, 3, 4, 5],
      )
    })

    it('keeps what was published while nobody of the group ran, and drops it when told so', async () => {
      const [of, group] = [randomUUID(), randomUUID()]
      await subscribe(of, group)
      await publish(event(of), event(of))
      assert.ok((await under.outbox.subscriptions()).some((row) => row.group === group && row.seenAt instanceof Date))
      assert.equal(await under.outbox.drop(group), 2)
      await publish(event(of))
      assert.deepEqual(await take(group), [])
      assert.ok(!(await under.outbox.subscriptions()).some((row) => row.group === group))
    })
  })
}
