/** Labels of a series that must have a value, or one that matches a regular expression as a whole, or that does not. */
export type Where = Readonly<Record<string, string | { readonly matches: string } | { readonly except: string }>>

/**
 * What becomes of a metric over some minutes, for each combination of the labels of `by`; `process` is one too.
 *
 * - Of a gauge: `highest`, `lowest`, `mean` and `last` of its values, `slope`, their change per second, and `samples`, the minutes
 *   that have one; of several series the highest counts.
 * - Of a counter: `increase`, and `rate`, its increase per second; those of several series are added up.
 * - Of a histogram: `count` of its observations, and a `quantile`.
 */
export type Leaf = {
  readonly metric: string
  readonly where?: Where
  readonly by: readonly string[]
  readonly minutes: number
} & (
  | { readonly take: 'highest' | 'lowest' | 'mean' | 'last' | 'slope' | 'samples' | 'increase' | 'rate' | 'count' }
  | { readonly take: 'quantile'; readonly share: number }
)

/**
 * A value for each combination of labels, which the record and Prometheus compute alike (`evaluate.ts`, `promql.ts`). Where two are combined, both
 * have the same labels, and what only one of them has is left out.
 */
export type Expression =
  | Leaf
  | { readonly ratio: readonly [Expression, Expression] }
  /** The smaller one: both are above a threshold if this is. */
  | { readonly least: readonly [Expression, Expression] }
  /** The highest of those that have the same values of these labels. */
  | { readonly most: Expression; readonly by: readonly string[] }
  /** Seconds since a time, in seconds since the epoch. */
  | { readonly since: Expression }
  /** Seconds until a time. */
  | { readonly until: Expression }
  /** Seconds until what shrinks is used up; none where it grows. */
  | { readonly emptyIn: Expression; readonly slope: Expression }

/** Returns the labels of its values. Pure. */
export function labelsOf(expression: Expression): readonly string[] {
  if ('by' in expression) return expression.by
  if ('ratio' in expression) return labelsOf(expression.ratio[0])
  if ('least' in expression) return labelsOf(expression.least[0])
  if ('since' in expression) return labelsOf(expression.since)
  if ('until' in expression) return labelsOf(expression.until)
  return labelsOf(expression.emptyIn)
}

/** Returns all leaves of an expression. Pure. */
export function leavesOf(expression: Expression): readonly Leaf[] {
  if ('metric' in expression) return [expression]
  if ('ratio' in expression) return expression.ratio.flatMap(leavesOf)
  if ('least' in expression) return expression.least.flatMap(leavesOf)
  if ('most' in expression) return leavesOf(expression.most)
  if ('since' in expression) return leavesOf(expression.since)
  if ('until' in expression) return leavesOf(expression.until)
  return [expression.emptyIn, expression.slope].flatMap(leavesOf)
}
