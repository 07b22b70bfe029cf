import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { Figures } from '../../../src/observe/figures.ts'
import {
  addGauges,
  combine,
  type Frame,
  growth,
  merge,
  nothing,
  pack,
  type Snapshot,
  unpack,
} from '../../../src/observe/record/frame.ts'
import { counted, distributed, gauged, quantile } from '../../../src/observe/record/groups.ts'
import { snapshotOf, unbounded } from '../../../src/observe/record/snapshot.ts'
import { dayPeaks } from '../../../src/observe/record/summary.ts'

const counters = (values: Record<string, number>): Snapshot => ({ ...nothing, counters: { requests: values } })
const histogram = (sum: number, counts: Record<string, number>): Snapshot => ({
  ...nothing,
  histograms: { seconds: { '{}': { sum, counts } } },
})

describe('growth', () => {
  it('counts from zero what was not there before, and leaves out what did not grow', () => {
    const { counters: found } = growth(counters({ a: 5, b: 2, gone: 9 }), counters({ a: 7.5, b: 2, c: 5 }))
    assert.deepEqual(found, { requests: { a: 2.5, c: 5 } })
  })

  it('is never negative: what is less than before began anew', () => {
    assert.deepEqual(growth(counters({ a: 100 }), counters({ a: 3 })).counters, { requests: { a: 3 } })
    const before = histogram(10, { '0..1': 8, '1..2': 2 })
    const { histograms } = growth(before, histogram(1.5, { '0..1': 3 }))
    assert.deepEqual(histograms, { seconds: { '{}': { sum: 1.5, counts: { '0..1': 3 } } } })
  })

  it('of a histogram is that of each bucket', () => {
    const before = histogram(1, { '0..1': 1 })
    const now = histogram(3.2, { '0..1': 1, '1..2': 2 })
    assert.deepEqual(growth(before, now).histograms, { seconds: { '{}': { sum: 2.2, counts: { '1..2': 2 } } } })
    assert.deepEqual(growth(now, now).histograms, {})
  })
})

it('a snapshot has what /metrics shows, with buckets that are not cumulative', async () => {
  const figures = new Figures()
  figures.counter('all', 'help').inc(3)
  figures.gauge('lag', 'help', ['server'], (gauge) => {
    gauge.set({ server: 'a' }, 0.5)
    gauge.set({ server: 'b' }, Number.POSITIVE_INFINITY)
    gauge.set({ server: 'c' }, Number.NaN)
  })
  const seconds = figures.histogram('seconds', 'help', ['route', 'refused'], [0.1, 1])
  for (const value of [0.05, 0.5, 0.7, 8]) seconds.observe({ route: '/a' }, value)
  seconds.observe({ route: '/b', refused: 'yes' }, 0.5)
  for (const { user } = process.cpuUsage(); process.cpuUsage().user === user; ); // some time of the processor
  const snapshot = snapshotOf(
    await figures.read(['all', 'seconds', 'lag', 'unknown', 'process_cpu_user_seconds_total']),
  )
  assert.equal(snapshot.counters.all!['{}'], 3)
  assert.deepEqual(snapshot.gauges, { lag: { '{"server":"a"}': 0.5, '{"server":"b"}': unbounded } })
  const sums = growth(nothing, snapshot).gauges.lag!['{"server":"b"}']!
  const day = Array.from({ length: 1440 }, () => sums).reduce(addGauges)
  assert.deepEqual(JSON.parse(JSON.stringify(day)), { min: 1e9, max: 1e9, sum: 1440e9, count: 1440 })
  assert.deepEqual(snapshot.histograms.seconds, {
    '{"route":"/a"}': { sum: 9.25, counts: { '0..0.1': 1, '0.1..1': 2, '1..+Inf': 1 } },
    '{"refused":"yes","route":"/b"}': { sum: 0.5, counts: { '0.1..1': 1 } },
  })
  assert.ok(snapshot.counters.process_cpu_user_seconds_total!['{}']! > 0)
})

/** A process that counts, gauges and times something each minute, with another set of series now and then. */
function frames(count: number, node = 'a'): Frame[] {
  let before: Snapshot = nothing
  let seed = 7
  const random = () => {
    seed = (seed * 48_271) % 2_147_483_647
    return seed / 2_147_483_647
  }
  const total = { counters: {} as Record<string, number>, counts: {} as Record<string, number>, sum: 0 }
  return Array.from({ length: count }, (_, minute) => {
    for (const key of ['a', 'b', 'c']) {
      if (random() > 0.3) total.counters[key] = (total.counters[key] ?? 0) + Math.round(random() * 1e6) / 1e6
      if (random() > 0.3) total.counts[`0..${key}`] = (total.counts[`0..${key}`] ?? 0) + 1
      total.sum += Math.round(random() * 1e6) / 1e6
    }
    const now: Snapshot = {
      counters: { requests: { ...total.counters } },
      gauges: { bytes: { '{}': Math.round(random() * 1e9) } },
      histograms: { seconds: { '{}': { sum: total.sum, counts: { ...total.counts } } } },
    }
    const grown = growth(before, now)
    before = now
    return { node, from: minute * 60_000, to: (minute + 1) * 60_000, ms: 60_000, ...grown }
  })
}

describe('merged frames', () => {
  it('are the same in whatever steps they are merged', () => {
    const all = frames(60)
    const whole = merge(all)
    const tens = Array.from({ length: 6 }, (_, ten) => merge(all.slice(ten * 10, ten * 10 + 10)))
    assert.deepEqual(merge(tens), whole)
    assert.deepEqual(merge(tens.toReversed()), whole)
    assert.deepEqual(combine([whole, nothing]), combine([whole]))
    assert.equal(whole.gauges.bytes!['{}']!.count, 60)
  })

  it('keep a gap: what was not measured is not filled', () => {
    const [first, , third] = frames(3)
    const merged = merge([first!, third!])
    assert.deepEqual([merged.from, merged.to, merged.ms], [0, 180_000, 120_000])
  })

  it('are unpacked as they were packed', () => {
    const all = [merge(frames(60)), ...frames(3)]
    assert.deepEqual(unpack('a', pack(all)), all)
  })
})

it('a day has the peak of its busiest hour, once it is over', () => {
  const day = Date.UTC(2026, 9, 25)
  const hours = Array.from({ length: 60 }, (_, n) => ({
    ...{ from: day + n * 3_600_000, requests: 3_600 * (n % 24) },
    coveredMs: 3_600_000,
  }))
  Object.assign(hours[40]!, { requests: 3_600 * 40, coveredMs: 2 * 3_600_000 }) // the clock had it twice
  const peaks = dayPeaks(hours, day + 1, day + 60 * 3_600_000)
  assert.deepEqual(peaks, [{ day: '2026-10-26', peak: 23 }], 'the first day began before, the last is not over')
})

describe('what is read', () => {
  const frame = (node: string, measured: Partial<Frame>): Frame => ({
    ...{ node, from: 0, to: 60_000, ms: 60_000 },
    ...nothing,
    ...measured,
  })
  const key = (route: string, status: string) => JSON.stringify({ route, status })
  const both = [
    frame('a', {
      counters: { n: { [key('/a', '200')]: 1, [key('/a', '500')]: 2, [key('/b', '200')]: 4 } },
      gauges: { bytes: { '{}': { min: 1, max: 3, sum: 4, count: 2 } } },
    }),
    frame('b', {
      counters: { n: { [key('/a', '200')]: 8 } },
      gauges: { bytes: { '{}': { min: 5, max: 5, sum: 5, count: 1 } } },
      histograms: { s: { [key('/a', '200')]: { sum: 1, counts: { '0.25..0.5': 8, '0.75..+Inf': 2 } } } },
    }),
  ]

  it('is grouped by labels and processes', () => {
    assert.deepEqual(counted(both, 'n', ['route']), [
      { labels: { route: '/a' }, value: 11 },
      { labels: { route: '/b' }, value: 4 },
    ])
    assert.deepEqual(counted(both, 'n', ['node']), [
      { labels: { node: 'a' }, value: 7 },
      { labels: { node: 'b' }, value: 8 },
    ])
    assert.deepEqual(gauged(both, 'bytes', []), [{ labels: {}, value: { min: 1, max: 5, sum: 9, count: 3 } }])
    assert.deepEqual(counted(both, 'unknown', []), [])
  })

  it('has quantiles within its buckets', () => {
    const { value } = distributed(both, 's', [])[0]!
    assert.equal(quantile(value, 0.4), 0.375)
    assert.equal(quantile(value, 0.99), 0.75, 'nothing is known above the last bound')
    assert.equal(quantile({ sum: 0, counts: {} }, 0.5), undefined)
  })
})
