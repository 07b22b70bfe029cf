import assert from 'node:assert/strict'
import { after, afterEach, before, it } from 'node:test'
import { machineTime, useTimeSource } from '../../../src/kernel/clock.ts'
import type { InvalidationLog } from '../../../src/primitives/cache/contract.ts'
import { readyMsMax } from '../../../src/primitives/cache/loads.ts'
import { openSignals } from '../../../src/runtime/wire.ts'
import { gate, openNode, openNodes, openThing, session } from '../../support/cache.ts'
import { type TestPostgres, testPostgres } from '../../support/postgres.ts'
import { until } from '../../support/process.ts'

let postgres: TestPostgres
before(async () => {
  postgres = await testPostgres()
})
afterEach(() => useTimeSource(machineTime))
after(() => postgres.stop())

it('loads past the cache when the log does not answer, once for all reads of a request, and serves nothing stale', async () => {
  let held: Promise<void> | undefined
  const { nodes, close } = await openNodes(postgres, async ({ database, connection, log }) => {
    const slow: InvalidationLog = {
      ...log,
      async since(mark) {
        await held
        return log.since(mark)
      },
    }
    const node = openNode({ database, log: slow, signals: await openSignals(database, async () => connection) })
    await node.core.open()
    return node
  })
  const [reader, writer] = nodes
  const { open: release, opened } = gate()
  try {
    const thing = await openThing(writer)
    assert.equal(await thing.get(reader), 0)
    const due: (() => void)[] = []
    useTimeSource({
      ticks: machineTime.ticks,
      startTimer(ms, fn, options) {
        if (ms !== readyMsMax) return machineTime.startTimer(ms, fn, options)
        due.push(fn)
        return () => {}
      },
    })
    held = opened
    await session()(async () => {
      await thing.write(writer)
      const first = thing.get(reader)
      await until(() => due.length === 1, 'the read waits for the log')
      due[0]!()
      assert.equal(await first, 1)
      assert.equal(await thing.get(reader), 1)
      assert.equal(due.length, 1, 'the second read does not wait again')
    })
  } finally {
    held = undefined
    release()
    await close()
  }
})
