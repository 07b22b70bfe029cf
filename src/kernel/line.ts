export interface Point {
  x: number
  y: number
}

export interface Line {
  /** NaN where all points have the same x. */
  slope: number
  /** The mean of x, and y there. */
  middle: number
  level: number
  count: number
  /** Sum of the squared distances of x from the middle. */
  spread: number
  /** Sum of the squared distances of y from the line. */
  squares: number
  /** Share of the scatter of y that the line explains, 0 to 1; 0 where there is no scatter. */
  fit: number
}

/** Returns the line with the least squares. Pure. */
export function lineThrough(points: readonly Point[]): Line {
  const sum = (of: (point: Point) => number) => points.reduce((all, point) => all + of(point), 0)
  const count = points.length
  const [middle, level] = [sum(({ x }) => x) / count, sum(({ y }) => y) / count]
  const spread = sum(({ x }) => (x - middle) ** 2)
  const scatter = sum(({ y }) => (y - level) ** 2)
  const both = sum(({ x, y }) => (x - middle) * (y - level))
  const slope = both / spread
  return {
    ...{ slope, middle, level, count, spread },
    squares: sum(({ x, y }) => (y - level - slope * (x - middle)) ** 2),
    fit: scatter === 0 ? 0 : both ** 2 / (spread * scatter),
  }
}
