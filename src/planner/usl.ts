import { type Random, seededRandom } from '../kernel/random.ts'
import { type Interval, intervalOf } from './interval.ts'

/** What so many processes carried together. */
export interface SizePoint {
  count: number
  /** In a second. */
  rate: number
}

/**
 * How the throughput of `n` processes grows: `single · n / (1 + contention · (n − 1) + coherency · n · (n − 1))`. Contention is the share of work that
 * only one of them can do at a time; coherency is what each pair of them costs.
 * Source: Neil J. Gunther, Guerrilla Capacity Planning, chapter 4, "universal scalability law".
 */
export interface Scaling {
  single: number
  contention: Interval
  coherency: Interval
  /** With more processes the throughput falls. Only where the measurements show it: all of the interval of coherency is above 0, and a larger size was measured. */
  peak: number | undefined
}

type Curve = Readonly<{ single: number; contention: number; coherency: number }>

/** Three coefficients go through any three points: the fourth shows how well they do. */
const sizesMin = 4
const simulations = 200

/** Returns the cost of a request with `count` processes, as a multiple of its cost with one. Pure. */
export function stretchOf({ contention, coherency }: Pick<Curve, 'contention' | 'coherency'>, count: number): number {
  return 1 + contention * (count - 1) + coherency * count * (count - 1)
}

/**
 * Fits the law to measurements, or says why it cannot. No coefficient is negative: more processes than one never do more than their number. Pure.
 * The intervals come from a bootstrap: measurements with the same relative error, drawn with a seed.
 */
export function fitScaling(points: readonly SizePoint[], seed = 1): Scaling | { unknown: string } {
  const sizes = new Set(points.map(({ count }) => count)).size
  if (sizes < sizesMin) {
    const found = sizes === 0 ? 'no size was' : sizes === 1 ? 'one size was' : `${sizes} sizes were`
    return { unknown: `${found} measured, and a curve with three coefficients needs ${sizesMin}` }
  }
  const best = fit(points)
  const random = seededRandom(seed)
  const squares = points.reduce((sum, { count, rate }) => sum + (rate - throughput(best, count)) ** 2, 0)
  const error = Math.sqrt(squares / (points.length - 3))
  const others = Array.from({ length: simulations }, () =>
    fit(
      points.map(({ count }) => {
        const rate = throughput(best, count)
        return { count, rate: Math.max(rate / 100, rate + error * normal(random)) }
      }),
    ),
  )
  const contention = intervalOf(
    others.map((one) => one.contention),
    best.contention,
    'measured',
  )
  const coherency = intervalOf(
    others.map((one) => one.coherency),
    best.coherency,
    'measured',
  )
  const peak = Math.sqrt(Math.max(0, 1 - best.contention) / best.coherency)
  const largest = Math.max(...points.map(({ count }) => count))
  return {
    ...{ single: best.single, contention, coherency },
    peak: coherency.low > 0 && peak <= largest ? peak : undefined,
  }
}

function throughput(curve: Curve, count: number): number {
  return (curve.single * count) / stretchOf(curve, count)
}

/**
 * Least squares of the throughput. In `count / rate` the law is linear: `a + b · (n − 1) + c · n · (n − 1)`. Weights make its squares those of the
 * throughput; they depend on the result, so it is repeated (iteratively reweighted least squares).
 */
function fit(points: readonly SizePoint[]): Curve {
  let curve: Curve | undefined
  for (let round = 0; round < 25; round += 1) {
    const weights = points.map(
      ({ count, rate }) => (rate * (curve ? throughput(curve, count) : rate) ** 3) / count ** 2,
    )
    curve = linearFit(points, weights)
  }
  return curve!
}

/** Of the fits with some coefficients at 0 and the others positive, the best: with three coefficients these are all that there are. */
function linearFit(points: readonly SizePoint[], weights: readonly number[]): Curve {
  const rows = points.map(({ count, rate }, index) => ({
    x: [1, count - 1, count * (count - 1)],
    y: count / rate,
    weight: weights[index]!,
  }))
  let best: { all: number[]; squares: number } | undefined
  for (const used of [[0], [0, 1], [0, 2], [0, 1, 2]]) {
    const found = solve(
      used.map((i) => used.map((j) => rows.reduce((sum, { x, weight }) => sum + weight * x[i]! * x[j]!, 0))),
      used.map((i) => rows.reduce((sum, { x, y, weight }) => sum + weight * x[i]! * y, 0)),
    )
    if (!found?.every((one) => one >= 0)) continue
    const all = [0, 0, 0]
    for (const [index, column] of used.entries()) all[column] = found[index]!
    const squares = rows.reduce(
      (sum, { x, y, weight }) => sum + weight * (y - x.reduce((s, v, i) => s + v * all[i]!, 0)) ** 2,
      0,
    )
    if (!best || squares < best.squares) best = { all, squares }
  }
  const [a, b, c] = best!.all as [number, number, number]
  return { single: 1 / a, contention: b / a, coherency: c / a }
}

/** Gaussian elimination; `undefined` if the equations have no single solution. */
function solve(matrix: readonly (readonly number[])[], right: readonly number[]): number[] | undefined {
  const rows = matrix.map((row, index) => [...row, right[index]!])
  for (let column = 0; column < rows.length; column += 1) {
    const pivot = rows
      .slice(column)
      .reduce((best, row) => (Math.abs(row[column]!) > Math.abs(best[column]!) ? row : best))
    if (Math.abs(pivot[column]!) < 1e-300) return undefined
    rows.splice(rows.indexOf(pivot), 1)
    rows.splice(column, 0, pivot)
    for (const row of rows) {
      if (row === pivot) continue
      const factor = row[column]! / pivot[column]!
      for (let index = column; index < row.length; index += 1) row[index]! -= factor * pivot[index]!
    }
  }
  return rows.map((row, index) => row.at(-1)! / row[index]!)
}

/** Source: Box and Muller, 1958. */
export function normal(random: Random): number {
  return Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random())
}
