import assert from 'node:assert/strict'
import { it } from 'node:test'
import { contradictionsIn, funnelOf, questionsTo, usersAt } from '../../src/planner/users.ts'

/** A common sizing example. */
const example = { registered: 1_000_000, daily: 100_000, concurrent: 10_000, rate: 50_000 }

it('what cannot be true together is told', () => {
  assert.deepEqual(contradictionsIn(example), [])
  assert.deepEqual(contradictionsIn({ ...example, limitPerMinute: 100 }), [
    '50,000 requests/s from 10,000 concurrent users are 300 requests a minute each; a limit of 100 requests a minute and user allows 16,667 requests/s at most.',
  ])
  assert.deepEqual(contradictionsIn({ ...example, rate: 16_666, limitPerMinute: 100 }), [])
  assert.deepEqual(contradictionsIn({ registered: 10, daily: 11, concurrent: 12 }), [
    '11 daily users cannot come from 10 registered users.',
    '12 concurrent users cannot come from 11 daily users.',
  ])
  assert.deepEqual(contradictionsIn({ registered: 10, concurrent: 12 }), [
    '12 concurrent users cannot come from 10 registered users.',
  ])
  assert.deepEqual(contradictionsIn({ ...example, sessionMs: 60_000 }), [
    "10,000 concurrent users whose visits take 1 min are 600,000 visits in the peak hour (Little's law), 6 of each of the 100,000 daily users.",
  ])
})

it('what is unusual is asked about', () => {
  assert.deepEqual(questionsTo(example), [
    "10,000 of 100,000 daily users at the same time: each of them is there for 60 minutes a day (Little's law, with a tenth of the visits in the peak hour). More than 22.5 are unusual.",
    '5 requests/s of each concurrent user: a page every 7 s with 6 requests would be 0.857. Leave out what browsers, the CDN and the page cache answer, or count who sends them.',
  ])
  assert.deepEqual(questionsTo({ registered: 100, daily: 90 }), [
    '90 % of the registered users come each day; 3 to 30 % are usual.',
  ])
  assert.deepEqual(questionsTo({ registered: 1_000, daily: 100, concurrent: 3, rate: 1 }), [])
})

it('each figure follows from the one before, as an interval that says where it comes from', () => {
  const { registered, daily, concurrent, rate } = funnelOf({ registered: 1_000_000 })
  assert.deepEqual(registered, { low: 1_000_000, likely: 1_000_000, high: 1_000_000, from: 'given' })
  for (const one of [daily!, concurrent!, rate!]) {
    assert.ok(0 < one.low && one.low < one.likely && one.likely < one.high)
    assert.equal(one.from, 'prior')
  }
  // 1,000,000 · 10 % a day, 1.5 visits of 6 minutes, a tenth of them in the peak hour, 2 requests every 15 s
  assert.deepEqual([daily!.likely, Math.round(concurrent!.likely), Math.round(rate!.likely)], [100_000, 1_500, 200])
  assert.deepEqual(funnelOf({ registered: 1_000_000 }), funnelOf({ registered: 1_000_000 }), 'repeatable')
})

it("what is given wins, and Little's law holds", () => {
  const { daily, concurrent, rate } = funnelOf({ daily: 100_000, sessionMs: 12 * 60_000, rate: 77 })
  assert.deepEqual([daily!.from, rate!.from, rate!.likely], ['given', 'given', 77])
  // In the peak hour 15,000 visits begin; each takes a fifth of it.
  assert.equal(concurrent!.likely, 3_000)
  assert.ok(funnelOf({ daily: 100, sessionMs: 24 * 3_600_000 }).concurrent!.high <= 100, 'nobody is there twice')
  assert.deepEqual(funnelOf({}), {})
  assert.equal(usersAt(100, funnelOf(example)), 20)
})

it('takes requests of others than signed-in users for none of theirs, and asks', () => {
  const loadTest = { registered: 2_000, daily: 1, rate: 6.6 }
  const { rate, ...funnel } = funnelOf({ daily: 50 }, loadTest)
  assert.equal(rate!.from, 'prior')
  assert.ok(rate!.high < 50 * 0.2, String(rate!.high))
  assert.match(
    questionsTo({ daily: 50 }, loadTest).join(),
    /has 6\.6 requests\/s in the busiest hour and 1 signed-in user on a day, 23,760 requests of each/,
  )
  const today = funnelOf({}, loadTest)
  assert.deepEqual([today.rate!.likely, today.rate!.from], [6.6, 'measured'], 'the rate of today stays what it is')
  assert.equal(usersAt(485, today), usersAt(485, {}))
  assert.ok(funnel.concurrent)

  const usual = { registered: 2_000, daily: 200, rate: 10 }
  assert.deepEqual(funnelOf({ daily: 400 }, usual).rate, { low: 20, likely: 20, high: 20, from: 'measured' })
  assert.deepEqual(questionsTo({ daily: 400 }, usual), [])
})
