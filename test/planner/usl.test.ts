import assert from 'node:assert/strict'
import { it } from 'node:test'
import { seededRandom } from '../../src/kernel/random.ts'
import { fitScaling, normal, type Scaling, stretchOf } from '../../src/planner/usl.ts'

const points = (counts: readonly number[], rates: readonly number[]) =>
  counts.map((count, n) => ({ count, rate: rates[n]! }))

function fitted(counts: readonly number[], rates: readonly number[]): Scaling {
  const found = fitScaling(points(counts, rates))
  assert.ok(!('unknown' in found))
  return found
}

it("finds the coefficients of published examples, as R's usl package does", () => {
  // Its test coef.R: made with 0.02 and 0.02, whose peak is at √(0.98 / 0.02) = 7.
  const made = fitted([1, 2, 4, 6, 8, 10], [1, 1.8868, 3.0769, 3.5294, 3.5398, 3.3557])
  assert.deepEqual([made.contention.likely.toFixed(3), made.coherency.likely.toFixed(3)], ['0.020', '0.020'])
  assert.equal(made.peak?.toFixed(1), '7.0')
  // specsdm91, a SPARCcenter 2000 (Gunther, Guerrilla Capacity Planning): 0.0277285, 0.0001044, one user 89.995.
  const spec = fitted([1, 18, 36, 72, 108, 144, 216], [64.9, 995.9, 1652.4, 1853.2, 1828.9, 1775, 1702.2])
  assert.equal(spec.contention.likely.toFixed(4), '0.0277')
  assert.equal(spec.coherency.likely.toFixed(6), '0.000104')
  assert.equal(spec.single.toFixed(0), '90')
  assert.equal(spec.peak?.toFixed(0), '97')
  assert.ok(spec.coherency.low < 0.000104 && spec.coherency.high > 0.000105)
})

it('no coefficient is negative, and no peak is told that the measurements do not show', () => {
  // Better than linear, by chance: an unconstrained fit has a negative contention.
  const lucky = fitted([1, 2, 3, 4], [100, 210, 320, 440])
  assert.deepEqual([lucky.contention.likely, lucky.coherency.likely, lucky.peak], [0, 0, undefined])
  const random = seededRandom(7)
  for (let run = 0; run < 60; run += 1) {
    const noisy = fitted(
      [1, 2, 3, 4, 6],
      [1, 2, 3, 4, 6].map(
        (n) => ((100 * n) / stretchOf({ contention: 0.05, coherency: 0 }, n)) * (1 + 0.03 * normal(random)),
      ),
    )
    for (const { low, likely, high } of [noisy.contention, noisy.coherency])
      assert.ok(0 <= low && low <= likely && likely <= high)
    assert.equal(noisy.peak, undefined, `run ${run}`)
  }
})

it('too few sizes are told', () => {
  assert.deepEqual(fitScaling([]), { unknown: 'no size was measured, and a curve with three coefficients needs 4' })
  assert.deepEqual(fitScaling(points([1, 2, 4, 4], [1, 2, 4, 4])), {
    unknown: '3 sizes were measured, and a curve with three coefficients needs 4',
  })
})
