import assert from 'node:assert/strict'
import { test } from 'node:test'
import { after, every, sleep, systemClock } from '../../src/kernel/clock.ts'
import { follow, makeTimeMovable, testClock } from '../../src/testing/clock.ts'

makeTimeMovable()
const hourMs = 3_600_000

test('a timer fires when its time has come, and not before', async () => {
  const fired: string[] = []
  after(3 * hourMs, () => fired.push('three'))
  after(hourMs, () => fired.push('one'))
  const end = after(hourMs, () => fired.push('ended'))
  end()
  await testClock.advance('30m')
  assert.deepEqual(fired, [])
  await testClock.advance('30m')
  assert.deepEqual(fired, ['one'])
  await testClock.advance('2h')
  assert.deepEqual(fired, ['one', 'three'])
})

test('a repeated timer fires once for the time that was skipped, and goes on', async () => {
  let count = 0
  const end = every(hourMs, () => {
    count += 1
  })
  await testClock.advance('10h')
  assert.equal(count, 1)
  await testClock.advance('1h')
  assert.equal(count, 2)
  end()
  await testClock.advance('1h')
  assert.equal(count, 2)
})

test('what sleeps wakes up, also by the rest of its time', async () => {
  const woken = sleep(hourMs)
  await testClock.advance('1h')
  await woken
  const rest = sleep(hourMs)
  await testClock.advance(hourMs - 5)
  await rest
  const gone = new AbortController()
  const ended = sleep(hourMs, gone.signal)
  gone.abort(new Error('enough'))
  await assert.rejects(ended, /enough/)
})

test('Date and the monotonic time move together, and a date remains a date', async () => {
  const [ticks, now] = [systemClock.ticks(), Date.now()]
  await testClock.advance('2d')
  const [ticked, passed] = [systemClock.ticks() - ticks, Date.now() - now]
  assert.ok(ticked >= 48 * hourMs && Math.abs(ticked - passed) < 5_000)
  const date = new Date()
  assert.ok(date instanceof Date && date.constructor === Date && structuredClone(date) instanceof Date)
  assert.ok(Math.abs(date.getTime() - Date.now()) < 5_000 && Math.abs(Date.parse(Date()) - Date.now()) < 5_000)
  assert.deepEqual([new Date(0).toISOString(), Date.UTC(1970, 0)], ['1970-01-01T00:00:00.000Z', 0])
  class Own extends Date {}
  assert.ok(new Own() instanceof Own && Math.abs(new Own().getTime() - Date.now()) < 5_000)
})

test('of two moves at the same time each counts', async () => {
  const aheads: number[] = []
  const before = Date.now()
  const setAhead = async (ms: number) => void aheads.push(ms)
  const unfollow = await follow({ setAhead, moved: async () => {} })
  await Promise.all([testClock.advance('1h'), testClock.advance('2h')])
  unfollow()
  assert.equal(aheads.at(-1)! - aheads.at(-2)!, 2 * hourMs)
  assert.ok(Date.now() - before >= 3 * hourMs)
})

test('a duration that is none is an error', async () => {
  await assert.rejects(testClock.advance('soon' as never), { code: 'CONFIG_INVALID' })
  await assert.rejects(testClock.advance(-1), { code: 'CONFIG_INVALID' })
})
