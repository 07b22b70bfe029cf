import type { Database } from '../../primitives/data/contract.ts'
import type { Frame } from '../record/frame.ts'
import { readRecord } from '../record/table.ts'
import { type Minute, minuteFrom, minuteMs, minuteOf } from './evaluate.ts'
import { type Leaf, leavesOf } from './expression.ts'
import type { Rule } from './rules.ts'

/** A minute, and whether any process has recorded it. */
export interface ReadMinute {
  readonly minute: Minute
  readonly isMeasured: boolean
}

/** Frames are unpacked so many minutes at a time, between which requests are answered. */
const stepMs = 5 * minuteMs

/** Reads what some leaves need of the record, from a whole minute to another, the oldest first. */
export async function* readMinutes(
  database: Database,
  leaves: readonly Leaf[],
  first: number,
  last: number,
): AsyncGenerator<ReadMinute, void, undefined> {
  for (let from = first; from <= last; from += stepMs) {
    const to = Math.min(from + stepMs - minuteMs, last)
    const byMinute = new Map<number, Frame[]>()
    // A frame begins a minute before it ends, more or less.
    const window = { from: from - 1.5 * minuteMs, to: to - 0.5 * minuteMs, resolutionMs: minuteMs }
    for await (const { frames } of readRecord(database, window)) {
      for (const frame of frames) byMinute.set(minuteOf(frame), [...(byMinute.get(minuteOf(frame)) ?? []), frame])
    }
    for (const at of span(from, to)) {
      const frames = byMinute.get(at) ?? []
      yield { minute: minuteFrom(at, frames, leaves), isMeasured: frames.length > 0 }
    }
  }
}

/** Whole minutes from one to another. */
export function* span(from: number, to: number): Generator<number> {
  for (let at = from; at <= to; at += minuteMs) yield at
}

/** All that rules look at. Pure. */
export function leavesIn(rules: readonly Rule[]): Leaf[] {
  return rules.flatMap(({ value, only = [] }) => [value, ...only.map((one) => one.value)].flatMap(leavesOf))
}
