import { lineThrough } from '../../kernel/line.ts'
import { addHistograms, type Frame, type Histogram, keyOf, total } from '../record/frame.ts'
import { quantile } from '../record/groups.ts'
import type { Expression, Leaf, Where } from './expression.ts'

export const minuteMs = 60_000

/** What leaves need of the frames of one minute, so that frames are read once and not for each evaluation. */
export interface Minute {
  /** The minute at whose end it was measured, in ms since the epoch. */
  readonly at: number
  /** By `idOf` of the leaf. */
  readonly samples: ReadonlyMap<string, readonly Sample[]>
}

interface Sample {
  /** The labels of `by` as a key. */
  readonly group: string
  readonly value: number | Histogram
}

/** Values by labels as a key (`keyOf`). */
export type Vector = ReadonlyMap<string, number>

/** A minute belongs to the frames that end nearest to it: a timer is a few ms late, and may be one early. */
export function minuteOf({ to }: Pick<Frame, 'to'>): number {
  return Math.round(to / minuteMs) * minuteMs
}

/** Leaves that differ only in their times have the same samples. */
function idOf({ metric, where, by, take }: Leaf): string {
  return JSON.stringify([kindOf(take), metric, where, by])
}

function kindOf(take: Leaf['take']): 'gauges' | 'counters' | 'histograms' {
  if (take === 'increase' || take === 'rate') return 'counters'
  return take === 'count' || take === 'quantile' ? 'histograms' : 'gauges'
}

/** Pure. */
export function minuteFrom(at: number, frames: readonly Frame[], leaves: readonly Leaf[]): Minute {
  const samples = new Map<string, Sample[]>()
  for (const leaf of leaves) {
    const id = idOf(leaf)
    if (samples.has(id)) continue
    const found = frames.flatMap((frame) => samplesIn(frame, leaf))
    samples.set(id, kindOf(leaf.take) === 'gauges' ? found : addedUp(found))
  }
  return { at, samples }
}

/** Adds up samples to keep six hours small. */
function addedUp(samples: readonly Sample[]): Sample[] {
  const groups = new Map<string, number | Histogram>()
  for (const { group, value } of samples) {
    const known = groups.get(group)
    if (known === undefined) groups.set(group, value)
    else if (typeof value === 'number') groups.set(group, (known as number) + value)
    else groups.set(group, addHistograms(known as Histogram, value))
  }
  return [...groups].map(([group, value]) => ({ group, value }))
}

function samplesIn(frame: Frame, { metric, where = {}, by, take }: Leaf): Sample[] {
  const kind = kindOf(take)
  return Object.entries(frame[kind][metric] ?? {}).flatMap(([key, found]) => {
    const labels: Record<string, string> = { ...JSON.parse(key), process: frame.node }
    if (!matches(labels, where)) return []
    const value = typeof found === 'object' && 'count' in found ? found.sum / found.count : found
    return [{ group: keyOf(Object.fromEntries(by.map((name) => [name, labels[name]]))), value } as Sample]
  })
}

function matches(labels: Readonly<Record<string, string>>, where: Where): boolean {
  return Object.entries(where).every(([name, wanted]) => {
    const value = labels[name] ?? ''
    if (typeof wanted === 'string') return value === wanted
    if ('matches' in wanted) return new RegExp(`^(?:${wanted.matches})$`).test(value)
    return !new RegExp(`^(?:${wanted.except})$`).test(value)
  })
}

/**
 * Returns the values of an expression at a minute, from minutes in their order. What was not measured has no value. Pure.
 */
export function evaluate(expression: Expression, minutes: readonly Minute[], at: number): Vector {
  const value = (one: Expression) => evaluate(one, minutes, at)
  if ('metric' in expression) return leafValues(expression, minutes, at)
  if ('ratio' in expression) {
    const [a, b] = expression.ratio.map(value) as [Vector, Vector]
    return both(a, b, (x, y) => x / y)
  }
  if ('least' in expression) {
    const [a, b] = expression.least.map(value) as [Vector, Vector]
    return both(a, b, Math.min)
  }
  if ('most' in expression) return most(value(expression.most), expression.by)
  if ('since' in expression) return mapped(value(expression.since), (time) => at / 1000 - time)
  if ('until' in expression) return mapped(value(expression.until), (time) => time - at / 1000)
  return both(value(expression.emptyIn), value(expression.slope), (level, slope) => {
    return slope < 0 ? level / -slope : Number.NaN
  })
}

function leafValues(leaf: Leaf, minutes: readonly Minute[], at: number): Vector {
  const from = at - leaf.minutes * minuteMs
  const groups = new Map<string, { at: number; value: number | Histogram }[]>()
  const id = idOf(leaf)
  for (const minute of minutes) {
    if (minute.at <= from || minute.at > at) continue
    for (const { group, value } of minute.samples.get(id) ?? []) {
      const own = groups.get(group) ?? []
      own.push({ at: minute.at, value })
      groups.set(group, own)
    }
  }
  return mapped(groups, (samples) => reduced(leaf, samples))
}

function reduced(leaf: Leaf, samples: readonly { at: number; value: number | Histogram }[]): number {
  const { take } = leaf
  if (take === 'count' || take === 'quantile') {
    const all = samples.map(({ value }) => value as Histogram).reduce(addHistograms)
    return take === 'count' ? total(all) : (quantile(all, (leaf as { share: number }).share) ?? Number.NaN)
  }
  const points = samples.map(({ at, value }) => ({ x: at / 1000, y: value as number }))
  const values = points.map(({ y }) => y)
  const sum = values.reduce((a, b) => a + b, 0)
  switch (take) {
    case 'highest':
      return Math.max(...values)
    case 'lowest':
      return Math.min(...values)
    case 'mean':
      return sum / values.length
    case 'last':
      return values.at(-1)!
    case 'slope':
      return lineThrough(points).slope
    case 'samples':
      return new Set(points.map(({ x }) => x)).size
    case 'increase':
      return sum
    case 'rate':
      return sum / (leaf.minutes * 60)
  }
}

/** What has no value (0/0, the slope of one point) is left out. */
function mapped<From>(from: ReadonlyMap<string, From>, change: (value: From) => number): Vector {
  return new Map(
    [...from].map(([key, value]) => [key, change(value)] as const).filter(([, value]) => !Number.isNaN(value)),
  )
}

function both(a: Vector, b: Vector, combine: (a: number, b: number) => number): Vector {
  const common = new Map([...a].flatMap(([key, x]) => (b.has(key) ? [[key, [x, b.get(key)!] as const]] : [])))
  return mapped(common, ([x, y]) => combine(x, y))
}

function most(of: Vector, by: readonly string[]): Vector {
  const found = new Map<string, number>()
  for (const [key, value] of of) {
    const labels: Record<string, string> = JSON.parse(key)
    const group = keyOf(Object.fromEntries(by.map((name) => [name, labels[name]])))
    found.set(group, Math.max(value, found.get(group) ?? Number.NEGATIVE_INFINITY))
  }
  return found
}
