import assert from 'node:assert/strict'
import { it } from 'node:test'
import { seededRandom } from '../../src/kernel/random.ts'
import { arrivals } from '../../src/load/arrivals.ts'
import { createHistogram } from '../../src/load.ts'

it('quantiles are at most 0.8 % off, from a microsecond to half an hour', () => {
  const random = seededRandom(3)
  const values = Array.from({ length: 20_000 }, () => 10 ** (random() * 9 - 3)).sort((a, b) => a - b)
  const histogram = createHistogram()
  for (const value of values) histogram.add(value)
  for (const share of [0.001, 0.01, 0.1, 0.5, 0.9, 0.99, 0.999]) {
    const [found, exact] = [histogram.at(share), values[Math.ceil(share * values.length) - 1]!]
    assert.ok(Math.abs(found - exact) <= 0.008 * exact + 0.000_6, `${share}: ${found} for ${exact}`)
  }
  assert.equal(histogram.max, values.at(-1))
  assert.equal(histogram.at(1), values.at(-1))
  assert.ok(Math.abs(histogram.mean - values.reduce((sum, one) => sum + one) / values.length) < 1e-3)
  assert.ok(Number.isNaN(createHistogram().at(0.5)))
})

it('a merged histogram is that of all values, also through JSON', () => {
  const [one, other, both] = [createHistogram(), createHistogram(), createHistogram()]
  for (let n = 1; n <= 1_000; n += 1) {
    const ms = (n * n) / 100
    both.add(ms)
    if (n % 3 === 0) one.add(ms)
    else other.add(ms)
  }
  one.merge(JSON.parse(JSON.stringify(other.toJson())))
  assert.deepEqual(one.toJson().counts, both.toJson().counts)
  assert.equal(one.count, 1_000)
})

it('arrivals follow the rates of their phases', () => {
  assert.deepEqual([...arrivals([{ seconds: 1, rate: 4 }])], [250, 500, 750, 1_000])
  // A ramp from 0 to 10 in 2 s: 10 in all, t²·2.5 of them after t seconds.
  const ramp = [...arrivals([{ seconds: 2, rate: 0, to: 10 }])]
  assert.deepEqual(
    ramp.map((ms) => Math.round(ms)),
    Array.from({ length: 10 }, (_, n) => Math.round(1_000 * Math.sqrt((n + 1) / 2.5))),
  )
  const down = [...arrivals([{ seconds: 2, rate: 10, to: 0 }])]
  assert.equal(down.length, 10)
  const steps = [
    ...arrivals(
      [
        { seconds: 10, rate: 50 },
        { seconds: 10, rate: 200 },
      ],
      seededRandom(5),
    ),
  ]
  const first = steps.filter((ms) => ms <= 10_000).length
  assert.ok(Math.abs(first - 500) < 100 && Math.abs(steps.length - first - 2_000) < 200, `${first} of ${steps.length}`)
  assert.deepEqual(
    steps,
    steps.toSorted((a, b) => a - b),
  )
})
