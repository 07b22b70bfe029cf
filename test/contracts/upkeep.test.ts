import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { after, before, describe, it } from 'node:test'
import type { Database } from '../../src/primitives/data/contract.ts'
import type { Lease } from '../../src/primitives/upkeep/contract.ts'
import { tableLease } from '../../src/primitives/upkeep/table.ts'
import { startUpkeep } from '../../src/primitives/upkeep/upkeep.ts'
import { openSystemTables } from '../support/data.ts'
import { type TestPostgres, testPostgres } from '../support/postgres.ts'
import { until } from '../support/process.ts'

/** What every adapter of the lease keeps. `open` returns the lease of one name as another process would have it. */
function leaseContract(adapter: string, open: (name: string) => Lease): void {
  describe(`upkeep contract: ${adapter}`, () => {
    const longMs = 60_000

    it('gives the lease to one of many that ask at once', async () => {
      const name = randomUUID()
      const held = await Promise.all(Array.from({ length: 20 }, (_, n) => open(name).hold(`process-${n}`, longMs)))
      assert.equal(held.filter(Boolean).length, 1)
    })

    it('lets its holder hold it for longer, and nobody else have it', async () => {
      const name = randomUUID()
      assert.equal(await open(name).hold('a', longMs), true)
      assert.equal(await open(name).hold('b', longMs), false)
      assert.equal(await open(name).hold('a', longMs), true)
    })

    it('gives it to another one when its time is over', async () => {
      const name = randomUUID()
      assert.equal(await open(name).hold('a', 1), true)
      await until(() => open(name).hold('b', longMs), 'the time is over')
      assert.equal(await open(name).hold('a', longMs), false)
    })

    it('gives it to another one when its holder releases it, and to nobody when somebody else does', async () => {
      const name = randomUUID()
      await open(name).hold('a', longMs)
      await open(name).release('b')
      assert.equal(await open(name).hold('b', longMs), false)
      await open(name).release('a')
      assert.equal(await open(name).hold('b', longMs), true)
    })

    it('knows leases of different names apart', async () => {
      assert.equal(await open(randomUUID()).hold('a', longMs), true)
      assert.equal(await open(randomUUID()).hold('b', longMs), true)
    })
  })
}

let postgres: TestPostgres
let database: Database
before(async () => {
  postgres = await testPostgres()
  ;({ database } = await openSystemTables(postgres))
})
after(async () => {
  await database.close()
  await postgres.stop()
})

leaseContract('table', (name) => tableLease(database, name))

describe('upkeep', () => {
  /** A process that does one task, and counts how often. */
  function processOf(lease: Lease, holder: string, run: () => Promise<void> = async () => {}) {
    const process = { runs: 0, failures: [] as [unknown, string | undefined][], end: async () => {} }
    const task = async () => {
      process.runs += 1
      await run()
    }
    process.end = startUpkeep({
      lease,
      holder,
      tasks: [{ name: 'count', everyMs: 1, run: task }],
      failed: (error, task) => process.failures.push([error, task]),
    })
    return process
  }

  it('is done by one process; when that one ends, by another', async () => {
    const name = randomUUID()
    const processes = ['a', 'b', 'c'].map((holder) => processOf(tableLease(database, name), holder))
    const busy = () => processes.filter(({ runs }) => runs > 0)
    await until(() => busy().some(({ runs }) => runs >= 2), 'one works')
    assert.equal(busy().length, 1)
    await busy()[0]!.end()
    await until(() => busy().length === 2, 'another works')
    for (const { end } of processes) await end()
  })

  it('is done by another process when the one that held the lease has gone without a word', async () => {
    const name = randomUUID()
    await tableLease(database, name).hold('a process that was killed', 100)
    const heir = processOf(tableLease(database, name), 'heir')
    await until(() => heir.runs > 0, 'the heir works')
    await heir.end()
  })

  it('goes on after a failure, and tells of it', async () => {
    const failing = processOf(tableLease(database, randomUUID()), 'a', () => Promise.reject(new Error('no')))
    await until(() => failing.failures.length >= 2, 'it has failed twice')
    assert.equal(failing.failures[0]![1], 'count')
    await failing.end()
  })

  it('goes on when the lease could not be asked for', async () => {
    const lease = tableLease(database, randomUUID())
    let asked = 0
    const unsteady: Lease = {
      ...lease,
      hold(holder, forMs) {
        asked += 1
        return asked === 1 ? Promise.reject(new Error('away')) : lease.hold(holder, forMs)
      },
    }
    const process = processOf(unsteady, 'a')
    await until(() => process.runs > 0, 'it works')
    assert.equal(process.failures[0]![1], undefined)
    await process.end()
  })
})
