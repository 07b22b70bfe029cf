import assert from 'node:assert/strict'
import { it } from 'node:test'
import { lineThrough } from '../../src/kernel/line.ts'

it('a line goes through points with the least squares', () => {
  const exact = [2, 4, 9].map((x) => ({ x, y: 3 * x - 1 }))
  assert.deepEqual(lineThrough(exact), {
    ...{ slope: 3, middle: 5, level: 14, count: 3, spread: 26, squares: 0, fit: 1 },
  })
  // Anscombe (1973), the first of his four: y = 3 + 0.5 x, r² = 0.67.
  const ys = [8.04, 6.95, 7.58, 8.81, 8.33, 9.96, 7.24, 4.26, 10.84, 4.82, 5.68]
  const points = [10, 8, 13, 9, 11, 14, 6, 4, 12, 7, 5].map((x, index) => ({ x, y: ys[index]! }))
  const { slope, level, middle, fit, squares } = lineThrough(points)
  assert.equal(slope.toFixed(3), '0.500')
  assert.equal((level - slope * middle).toFixed(2), '3.00')
  assert.equal(fit.toFixed(2), '0.67')
  assert.equal(squares.toFixed(2), '13.76')
})

it('one point has no slope, and points of one height have nothing to explain', () => {
  assert.ok(Number.isNaN(lineThrough([{ x: 1, y: 1 }]).slope))
  const { slope, fit } = lineThrough([1, 2, 3].map((x) => ({ x, y: 7 })))
  assert.deepEqual([slope, fit], [0, 0])
})
