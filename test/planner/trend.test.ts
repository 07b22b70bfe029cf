import assert from 'node:assert/strict'
import { it } from 'node:test'
import { seededRandom } from '../../src/kernel/random.ts'
import { type DayPeak, dateOf, dayOf, dayText, lastPeakOf, trendOf } from '../../src/planner/trend.ts'
import { normal } from '../../src/planner/usl.ts'

const today = dayOf('2026-11-30')
/** Weekdays differ by half; it grows by a share each week, with noise. */
function peaks(days: number, { perWeek = 0, noise = 0.02, seed = 1, from = 100 }): DayPeak[] {
  const random = seededRandom(seed)
  const season = [1, 0.95, 0.9, 0.9, 0.85, 0.5, 0.55]
  return Array.from({ length: days }, (_, index) => ({
    day: dayText(today - days + 1 + index),
    peak: from * (1 + perWeek) ** (index / 7) * season[index % 7]! * (1 + noise * normal(random)),
  }))
}
const known = (found: ReturnType<typeof dateOf>) => {
  assert.ok(!('unknown' in found), JSON.stringify(found))
  return found
}
const reason = (found: object) => (found as { unknown?: string }).unknown

it('the date of the ceiling is in its interval', () => {
  let [inside, narrow] = [0, 0]
  for (let seed = 1; seed <= 40; seed += 1) {
    const trend = trendOf(peaks(12 * 7, { perWeek: 0.05, seed }), seed)
    const { low, likely, high } = known(dateOf(trend, [250], today))
    // The week that ends on the seventh day has 100.
    const truth = today - 12 * 7 + 7 + (7 * Math.log(2.5)) / Math.log(1.05)
    assert.ok(low <= likely && likely <= high)
    if (low <= truth && truth <= high) inside += 1
    if (high - low < 120) narrow += 1
  }
  assert.ok(inside >= 32, `${inside} of 40`)
  assert.ok(narrow >= 36, `${narrow} of 40`)
})

it('an uncertain ceiling makes the date uncertain, and one that is exceeded is reached today', () => {
  const trend = trendOf(peaks(84, { perWeek: 0.05 }))
  const width = (ceilings: readonly number[]) => {
    const { low, high } = known(dateOf(trend, ceilings, today))
    return high - low
  }
  assert.ok(width([200, 250, 300]) > width([250]) + 20)
  assert.deepEqual(dateOf(trend, [50], today), { low: today, likely: today, high: today })
})

it('less than three weeks say nothing, however steep they are', () => {
  for (const days of [1, 6, 13, 18])
    assert.match(reason(trendOf(peaks(days, { perWeek: 1 })))!, /3 weeks are needed/, `${days} days`)
  assert.equal(
    reason(trendOf(peaks(10, {}))),
    'there are peaks of 10 days, with 1 week of at least 5 days; days of a week differ, so 3 weeks are needed',
  )
  const holes = peaks(28, {}).filter((_, index) => index % 7 < 4)
  assert.match(reason(trendOf(holes))!, /0 weeks of/)
})

it('no growth gives no date: no false alarm from noise and seasons', () => {
  let alarms = 0
  for (let seed = 1; seed <= 40; seed += 1) {
    for (const weeks of [3, 4, 8, 20]) {
      const found = dateOf(trendOf(peaks(7 * weeks, { noise: 0.05, seed }), seed), [200], today)
      if (!('unknown' in found)) alarms += 1
    }
  }
  assert.ok(alarms <= 4, `${alarms} of 160`)
})

it('an interval of more than two years, and a growth that may be none, are told', () => {
  const slow = dateOf(trendOf(peaks(70, { perWeek: 0.002, noise: 0.02 })), [200], today)
  assert.match(reason(slow)!, /^the peaks of 10 weeks grow by /)
  const never = dateOf(trendOf(peaks(140, { perWeek: -0.05 })), [200], today)
  assert.match(reason(never)!, /not reached in 10 years$/)
})

it('the present rate is the highest of the last week', () => {
  assert.equal(
    lastPeakOf([
      { day: '2026-11-20', peak: 900 },
      { day: '2026-11-30', peak: 7 },
      { day: '2026-11-24', peak: 9 },
    ]),
    9,
  )
})
