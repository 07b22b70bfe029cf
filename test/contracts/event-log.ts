import assert from 'node:assert/strict'
import { after, before, beforeEach, describe, it } from 'node:test'
import { type Client, type ConnectionConfig, connectOnce } from '../../src/engines/postgres/client.ts'
import type { Database } from '../../src/primitives/data/contract.ts'
import { createData, type Data } from '../../src/primitives/data/data.ts'
import type { Riding } from '../../src/primitives/data/rides.ts'
import type { SqlTag } from '../../src/primitives/data/sql.ts'
import { type Chain, type EventLog, type Outbox, queueOfGroup } from '../../src/primitives/events/contract.ts'
import type { Queue } from '../../src/primitives/jobs/contract.ts'

export interface EventLogUnderTest {
  log: EventLog & Outbox
  queue: Queue
  database: Database
  connection: ConnectionConfig
  close(): Promise<void>
}

type Tx = SqlTag & { publish(...payloads: number[]): void }

/** What every adapter of a log keeps, whatever brings its events, in which order and how often. `open` returns one on a fresh database. */
export function eventLogContract(name: string, open: () => Promise<EventLogUnderTest>): void {
  describe(`event log contract: ${name}`, () => {
    let under: EventLogUnderTest
    let log: EventLog & Outbox
    let data: Data<Tx>
    let client: Client
    let group = ''
    let groups = 0
    before(async () => {
      under = await open()
      log = under.log
      const extend = (riding: Riding) => ({
        publish: (...payloads: number[]) =>
          riding.ride(() => [
            log.publish(
              payloads.map((one) => ({ name: 'happened', payload: String(one), key: 'k', context: {} })),
              () => {},
            ),
          ]),
      })
      data = createData<Tx>(under.database, { extend }).forModule('m')
      client = await connectOnce(under.connection)
    })
    beforeEach(async () => {
      groups += 1
      group = `group-${groups}`
    })
    after(async () => {
      await client.end()
      await under.close()
    })

    const publish = (...payloads: number[]) => data.write((tx) => tx.publish(...payloads))
    const subscribe = (fromStart = false) => log.subscribe([{ event: 'happened', group, attemptsMax: 3, fromStart }])
    const markOf = async () => (await log.marks()).find((one) => one.group === group)!.n
    /** Everything that was published since this mark. */
    const readFrom = async (after: number): Promise<Chain> => {
      while ((await log.number(100)) > 0);
      return log.read(after, 1_000)
    }
    const part = (chain: Chain, from: number, to: number): Chain => ({
      ...chain,
      after: from === 0 ? chain.after : chain.events[from - 1]!.n,
      events: chain.events.slice(from, to),
    })
    const delivered = async () => {
      const items = await under.queue.list({ queues: [queueOfGroup(group)], limit: 1_000 })
      return items.map(({ payload }) => payload as number).reverse()
    }

    it('gives numbers in the order in which commits became visible, so that nothing appears in front of what was seen', async () => {
      await subscribe()
      const from = await markOf()
      await client.query('begin')
      await client.query(`insert into rung.event (name, payload) values ('happened', '1')`) // has the lowest id, and commits last
      await publish(2)
      const early = await readFrom(from)
      assert.deepEqual(
        early.events.map(({ payload }) => payload),
        ['2'],
      )
      await client.query('commit')
      await publish(3)
      const late = await readFrom(early.events[0]!.n)
      assert.deepEqual(
        late.events.map(({ payload }) => payload),
        ['1', '3'],
      )
      assert.equal(late.after, early.events[0]!.n)
      for (const chain of [early, late]) await log.take(chain)
      assert.deepEqual(await delivered(), [2, 1, 3])
    })

    it('numbers each event once, however many do it at the same time', async () => {
      await subscribe()
      const from = await markOf()
      await publish(...Array.from({ length: 300 }, (_, n) => n))
      await Promise.all(Array.from({ length: 4 }, () => log.number(100)))
      const { events } = await readFrom(from)
      assert.deepEqual(
        events.map(({ n }) => n - events[0]!.n),
        Array.from({ length: 300 }, (_, n) => n),
      )
      assert.deepEqual(
        events.map(({ payload }) => Number(payload)),
        Array.from({ length: 300 }, (_, n) => n),
      )
    })

    it('takes each event once, in whatever order and how often chains come, and none in front of a gap', async () => {
      await subscribe()
      const chain = await readFrom(await markOf()).then(async ({ after }) => {
        await publish(1, 2, 3, 4, 5, 6)
        return readFrom(after)
      })
      assert.deepEqual([...(await log.take(part(chain, 2, 4)))], [], 'two are missing in front of it')
      assert.deepEqual([...(await log.take(part(chain, 0, 2)))], [queueOfGroup(group)])
      await log.take(part(chain, 0, 2))
      await log.take(part(chain, 4, 6))
      await log.take(part(chain, 1, 4))
      await log.take(part(chain, 4, 6))
      await Promise.all([log.take(chain), log.take(chain)])
      assert.deepEqual(await delivered(), [1, 2, 3, 4, 5, 6])
      assert.equal(await markOf(), chain.events.at(-1)!.n)
    })

    it('refuses what belongs to a history that this database does not have any more', async () => {
      await subscribe()
      const from = await markOf()
      await publish(1)
      const chain = await readFrom(from)
      assert.deepEqual([...(await log.take({ ...chain, history: 'another' }))], [])
      assert.deepEqual(await delivered(), [])
      await log.take(chain)
      assert.deepEqual(await delivered(), [1])
    })

    it('gives no number twice after the history has changed', async () => {
      await subscribe()
      await publish(1)
      const { last } = await readFrom(await markOf()).then(() => log.state())
      // As after a restore: what had the next numbers is lost.
      await client.query(`update rung.event_log set history = 'before the restore'`)
      await publish(2)
      const { events } = await readFrom(last)
      assert.ok(events[0]!.n > last + 1_000, 'far above what may have been given before')
      await log.take(await readFrom(await markOf()))
      assert.deepEqual(await delivered(), [1, 2])
    })

    it('begins a new group behind everything that was committed, also what has no number yet', async () => {
      await publish(1)
      await client.query('begin')
      await client.query(`insert into rung.event (name, payload) values ('happened', '2')`)
      await subscribe()
      await client.query('commit')
      await publish(3)
      await subscribe() // again, as every start does
      await log.take(await readFrom(await markOf()))
      assert.deepEqual(await delivered(), [2, 3])
    })

    it('begins a group at the oldest event that is kept if it asks for it, beside others that are at the end', async () => {
      await client.query('delete from rung.event')
      await publish(1, 2)
      await subscribe()
      const other = group
      group = `${group}-later`
      await subscribe(true)
      await log.take(await readFrom(await markOf()))
      await publish(3)
      await log.take(await readFrom(await markOf()))
      assert.deepEqual(await delivered(), [1, 2, 3])
      group = other
      assert.deepEqual(await delivered(), [3])
    })

    it('forgets what is old and was taken', async () => {
      const { last } = await readFrom(0).then(() => log.state())
      await publish(1)
      await readFrom(last)
      await log.prune(last, 0, 10_000)
      const state = await log.state()
      assert.equal(state.first, last + 1)
      assert.equal(await log.prune(state.last, 3_600_000, 10_000), 0, 'it is not old')
      assert.equal(await log.prune(state.last, 0, 10_000), 1)
      const emptied = await log.state()
      assert.equal(emptied.first, emptied.last + 1)
    })

    it('tells what has no number, and what the broker does not have', async () => {
      await readFrom(0)
      const { last } = await log.state()
      await log.sent(last)
      await publish(1, 2)
      const published = await log.state()
      assert.deepEqual([published.unnumbered, published.unsent], [2, 0])
      assert.ok(published.oldestMs > 0)
      await readFrom(last)
      const numbered = await log.state()
      assert.deepEqual(
        [numbered.unnumbered, numbered.unsent, numbered.last - numbered.sent],
        [0, 2, numbered.last - last],
      )
      await log.sent(numbered.last)
      await log.sent(last) // of another process, which was slower
      assert.deepEqual(await log.state().then(({ unsent, sent, oldestMs }) => [unsent, sent, oldestMs]), [
        0,
        numbered.last,
        0,
      ])
    })

    it('ends a group with all that is its own', async () => {
      await subscribe()
      await publish(1)
      await log.take(await readFrom(await markOf()))
      assert.equal(await log.drop(group), 1)
      assert.ok(!(await log.marks()).some((one) => one.group === group))
      assert.deepEqual(await delivered(), [])
    })
  })
}
