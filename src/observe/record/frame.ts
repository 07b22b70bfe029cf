import { constants, zstdCompressSync, zstdDecompressSync } from 'node:zlib'
import { addSketches, type Sketch } from './sketch.ts'

/** Values of one kind by the name of the metric, then by its labels (`keyOf`). */
export type Series<Value> = Readonly<Record<string, Readonly<Record<string, Value>>>>

/** A value that goes up and down, as it was found `count` times. */
export interface Gauge {
  readonly min: number
  readonly max: number
  readonly sum: number
  readonly count: number
}

/**
 * How many values were above one bound and not above the next, by both: `0.005..0.01`, `10..+Inf`. Others had no value. Two builds may have
 * different bounds: their counts add up all the same.
 */
export interface Histogram {
  readonly sum: number
  readonly counts: Readonly<Record<string, number>>
}

/** What a process has counted since its start, and gauges as they are now. */
export interface Snapshot {
  readonly counters: Series<number>
  readonly gauges: Series<number>
  readonly histograms: Series<Histogram>
}

/** What was counted in a stretch of time. What is not there was not counted. */
export interface Measured {
  readonly counters: Series<number>
  readonly gauges: Series<Gauge>
  readonly histograms: Series<Histogram>
  /** Of how many different ones there were. Frames of older builds have none. */
  readonly sketches?: Series<Sketch>
}

/** What one process measured in one stretch of time. Times are ms since the epoch. */
export interface Frame extends Measure {
  /** `host:pid:random`, another one after each start. */
  readonly node: string
}

type Measure = Measured & {
  readonly from: number
  readonly to: number
  /**
   * For how long it was measured, on the monotonic clock: less than `to - from` where a frame in between was lost, more where frames were put
   * together of a time that the wall clock had twice, as it was set back.
   */
  readonly ms: number
}

export const nothing = { counters: {}, gauges: {}, histograms: {} }

/** Labels as a key: sorted, without those that are empty. */
export function keyOf(labels: Readonly<Record<string, string | number | undefined>>): string {
  const named = Object.entries(labels).filter(([, value]) => value !== undefined && value !== '')
  return JSON.stringify(Object.fromEntries(named.sort(([a], [b]) => (a < b ? -1 : 1))))
}

/** Returns what was counted between two snapshots of one process. What is less than before began anew. Pure. */
export function growth(before: Snapshot, now: Snapshot): Measured {
  return {
    counters: mapped(now.counters, (value, name, key) => grown(before.counters[name]?.[key], value) || undefined),
    gauges: mapped(now.gauges, (value) => ({ min: value, max: value, sum: value, count: 1 })),
    histograms: mapped(now.histograms, (value, name, key) => {
      const known = before.histograms[name]?.[key]
      const began = known === undefined || total(value) < total(known)
      const counts: Record<string, number> = {}
      for (const [bound, count] of Object.entries(value.counts)) {
        const more = count - (began ? 0 : (known.counts[bound] ?? 0))
        if (more > 0) counts[bound] = more
      }
      if (Object.keys(counts).length === 0) return undefined
      return { sum: rounded(value.sum - (began ? 0 : known.sum)), counts }
    }),
  }
}

/** Returns what was counted in all of them. Pure, and exact. */
export function combine(parts: readonly Measured[]): Measured {
  return {
    counters: joined(
      parts.map(({ counters }) => counters),
      addCounts,
    ),
    gauges: joined(
      parts.map(({ gauges }) => gauges),
      addGauges,
    ),
    histograms: joined(
      parts.map(({ histograms }) => histograms),
      addHistograms,
    ),
    sketches: joined(
      parts.map(({ sketches = {} }) => sketches),
      addSketches,
    ),
  }
}

/** Puts frames of one process together, at least one. Pure. */
export function merge(frames: readonly Frame[]): Frame {
  return {
    node: frames[0]!.node,
    from: Math.min(...frames.map(({ from }) => from)),
    to: Math.max(...frames.map(({ to }) => to)),
    ms: frames.reduce((sum, { ms }) => sum + ms, 0),
    ...combine(frames),
  }
}

export function addCounts(a: number, b: number): number {
  return rounded(a + b)
}

export function addGauges(a: Gauge, b: Gauge): Gauge {
  return {
    min: Math.min(a.min, b.min),
    max: Math.max(a.max, b.max),
    sum: rounded(a.sum + b.sum),
    count: a.count + b.count,
  }
}

export function addHistograms(a: Histogram, b: Histogram): Histogram {
  const counts: Record<string, number> = { ...a.counts }
  for (const [bound, count] of Object.entries(b.counts)) counts[bound] = (counts[bound] ?? 0) + count
  return { sum: rounded(a.sum + b.sum), counts }
}

export function total({ counts }: Histogram): number {
  return Object.values(counts).reduce((a, b) => a + b, 0)
}

/** Takes 5 ms for a row of a day. 19 saves a quarter and takes 25 times as long. */
const level = 9

/** Returns frames of one process as they are kept. */
export function pack(frames: readonly Measure[]): Buffer {
  const content = frames.map(({ from, to, ms, counters, gauges, histograms, sketches }) => {
    return { from, to, ms, counters, gauges, histograms, sketches }
  })
  return zstdCompressSync(JSON.stringify(content), { params: { [constants.ZSTD_c_compressionLevel]: level } })
}

export function unpack(node: string, content: Buffer): Frame[] {
  const frames: Measure[] = JSON.parse(zstdDecompressSync(content).toString())
  return frames.map((frame) => ({ node, ...frame }))
}

/** Seconds are kept to the microsecond, so that sums of sums stay short. */
function rounded(value: number): number {
  return Math.round(value * 1e6) / 1e6
}

function grown(before = 0, now: number): number {
  return rounded(now < before ? now : now - before)
}

function mapped<From, To>(
  series: Series<From>,
  change: (value: From, name: string, key: string) => To | undefined,
): Series<To> {
  const found: Record<string, Record<string, To>> = {}
  for (const [name, byKey] of Object.entries(series)) {
    for (const [key, value] of Object.entries(byKey)) {
      const changed = change(value, name, key)
      if (changed === undefined) continue
      found[name] ??= {}
      found[name][key] = changed
    }
  }
  return found
}

function joined<Value>(all: readonly Series<Value>[], add: (a: Value, b: Value) => Value): Series<Value> {
  const found: Record<string, Record<string, Value>> = {}
  for (const series of all) {
    for (const [name, byKey] of Object.entries(series)) {
      found[name] ??= {}
      const own = found[name]
      for (const [key, value] of Object.entries(byKey)) own[key] = own[key] === undefined ? value : add(own[key], value)
    }
  }
  return found
}
