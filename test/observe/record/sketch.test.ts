import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { addSketches, addTo, countIn, type Sketch } from '../../../src/observe/record/sketch.ts'

const sketchOf = (from: number, to: number): Sketch => {
  const sketch: Record<string, number> = {}
  for (let n = from; n < to; n += 1) addTo(sketch, `user-${n}`)
  return sketch
}

describe('a sketch', () => {
  it('counts different ids, few of them nearly exactly', () => {
    assert.equal(countIn({}), 0)
    for (const [count, off] of [
      [1, 0],
      [10, 0.1],
      [100, 0.1],
      [1_000, 0.12],
      [3_000, 0.12],
      [30_000, 0.12],
      [200_000, 0.12],
    ] as const) {
      const found = countIn(sketchOf(0, count))
      assert.ok(Math.abs(found / count - 1) <= off, `${found} of ${count}`)
    }
  })

  it('does not count an id twice, in one or in two', () => {
    const [all, first, second] = [sketchOf(0, 5_000), sketchOf(0, 3_000), sketchOf(2_000, 5_000)]
    assert.deepEqual(addSketches(first, second), all)
    assert.deepEqual(addSketches(all, all), all)
  })
})
