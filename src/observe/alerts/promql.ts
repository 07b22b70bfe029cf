import { type Expression, type Leaf, labelsOf, type Where } from './expression.ts'

/** How Prometheus calls what tells processes apart. */
const labelNames: Readonly<Record<string, string>> = { process: 'instance' }

/**
 * Returns an expression in the language of Prometheus, for figures that it scrapes at least once a minute. Pure.
 * @example promqlOf({ metric: 'jobs', where: { state: 'dead' }, by: ['queue'], minutes: 5, take: 'lowest' })
 */
export function promqlOf(expression: Expression): string {
  if ('metric' in expression) return leafText(expression)
  if ('ratio' in expression) {
    const [a, b] = expression.ratio.map(promqlOf)
    return `(${a} / ${b})`
  }
  if ('least' in expression) {
    const [a, b] = expression.least.map(promqlOf)
    return `((${a} <= ${b}) or (${b} < ${a}))`
  }
  if ('most' in expression) return `max by (${listed(expression.by)}) (${promqlOf(expression.most)})`
  if ('since' in expression) return `(time() - ${promqlOf(expression.since)})`
  if ('until' in expression) return `(${promqlOf(expression.until)} - time())`
  return `(${promqlOf(expression.emptyIn)} / (-${promqlOf(expression.slope)} > 0))`
}

/** Returns the names of the labels of an expression's values, as Prometheus has them. Pure. */
export function labelList(expression: Expression): string {
  return listed(labelsOf(expression))
}

function listed(by: readonly string[]): string {
  return by.map((name) => labelNames[name] ?? name).join(', ')
}

const overTime = { highest: 'max', lowest: 'min', mean: 'avg', last: 'last' } as const

function leafText(leaf: Leaf): string {
  const { metric, where = {}, by, minutes, take } = leaf
  const series = (suffix = '') => `${metric}${suffix}${selector(where)}`
  // A gauge has as many values as minutes: one second less keeps the one out that is as old as the window.
  const values = `[${minutes * 60 - 1}s]`
  const growth = `[${minutes}m]`
  const group = (labels: readonly string[]) => `by (${listed(labels)})`
  switch (take) {
    case 'slope':
    case 'samples':
      // Of what all processes say, as the one that measures it in the record may be another one each hour.
      return `${take === 'slope' ? 'deriv' : 'count_over_time'}((max ${group(by)} (${series()}))[${minutes * 60 - 1}s:1m])`
    case 'increase':
    case 'rate':
      return `sum ${group(by)} (${take}(${series()}${growth}))`
    case 'count':
      return `sum ${group(by)} (increase(${series('_count')}${growth}))`
    case 'quantile':
      return `histogram_quantile(${leaf.share}, sum ${group(['le', ...by])} (increase(${series('_bucket')}${growth})))`
    default:
      return `max ${group(by)} (${overTime[take]}_over_time(${series()}${values}))`
  }
}

function selector(where: Where): string {
  const terms = Object.entries(where).map(([name, wanted]) => {
    if (typeof wanted === 'string') return `${name}="${wanted}"`
    return 'matches' in wanted ? `${name}=~"${wanted.matches}"` : `${name}!~"${wanted.except}"`
  })
  return terms.length === 0 ? '' : `{${terms.join(',')}}`
}
