import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Feed, type Reading } from '../../src/console/feed.ts'
import { RungError } from '../../src/kernel/errors.ts'
import { until } from '../support/process.ts'

test('a feed reads once for all who look, tells what has changed, and rests while nobody looks', async () => {
  let [reads, value] = [0, 1]
  const feed = new Feed({
    counter: {
      everyMs: 1,
      async read({ of = 'all' }) {
        reads += 1
        if (value === 0) throw new RungError('FLEET_NOT_RUNNING', 'Nothing runs.')
        return { of, value }
      },
    },
  })
  const [first, second]: [Reading[], Reading[]] = [[], []]
  const endFirst = feed.watch('counter', {}, (reading) => first.push(reading))
  await until(() => first.length > 0, 'the first reading')
  const endSecond = feed.watch('counter', {}, (reading) => second.push(reading))
  assert.equal(second.length, 1, 'what is known comes at once')
  const before = reads
  await until(() => reads > before + 3, 'it is read again')
  assert.equal(first.length, 1, 'the same is not told twice')
  value = 0
  await until(() => second.length > 1, 'it has changed')
  const [last] = second.slice(-1)
  assert.deepEqual('error' in last! && last.error.code, 'FLEET_NOT_RUNNING')
  assert.equal(first.length, second.length)

  const other: Reading[] = []
  value = 2
  const endOther = feed.watch('counter', { of: 'some' }, (reading) => other.push(reading))
  await until(() => other.length > 0, 'another query is another reading')
  assert.deepEqual('view' in other[0]! && other[0].view, { of: 'some', value: 2 })

  for (const end of [endFirst, endSecond, endOther]) end()
  await until(async () => {
    const now = reads
    await new Promise((resolve) => setTimeout(resolve, 20))
    return reads === now
  }, 'nothing is read any more')
  const again: Reading[] = []
  feed.watch('counter', {}, (reading) => again.push(reading))
  assert.ok(again.length === 1, 'what was known last comes at once')
  await until(() => reads > 0 && 'view' in again.at(-1)!, 'and it is read again')
  feed.close()
})

test('a feed shows a glance first, and reads again at once after a change', async () => {
  let reads = 0
  const feed = new Feed({
    slow: {
      everyMs: 3_600_000,
      glance: async () => 'glance',
      read: async () => {
        reads += 1
        return reads
      },
    },
  })
  const told: unknown[] = []
  feed.watch('slow', {}, (reading) => told.push('view' in reading && reading.view))
  await until(() => told.length === 2, 'the glance and the reading')
  feed.refresh()
  await until(() => told.length === 3, 'it is read again')
  assert.deepEqual(told, ['glance', 1, 2])
  feed.close()
})
