import { spanIdsOf, traceIdOf } from './list.ts'
import type { Step, Unit } from './unit.ts'

/** One trace, drawn from left to right: `from` and `share` are places on its axis, 0 to 1. Times are ms. */
export interface Waterfall {
  readonly id: string
  readonly startedAt: number
  /** From its first start to its last end. */
  readonly ms: number
  /** Time in which no unit ran; the axis leaves it out. */
  readonly idleMs: number
  readonly units: readonly DrawnUnit[]
}

export interface DrawnUnit extends Place, Omit<Unit, 'steps' | 'traceparent' | 'parent' | 'startedAt'> {
  readonly process: string
  readonly spanId: string
  readonly parentId: string | undefined
  readonly steps: readonly DrawnStep[]
}

export interface DrawnStep extends Place, Omit<Step, 'text'> {
  /** In one line. */
  readonly text: string | undefined
}

interface Place {
  /** From the start of the trace. */
  readonly atMs: number
  readonly from: number
  readonly share: number
}

/** Draws the units of one trace, of which there is at least one. Pure. Clocks of different machines may differ. */
export function waterfallOf(found: readonly (Unit & { process: string })[]): Waterfall {
  const units = [...found].sort((a, b) => a.startedAt - b.startedAt)
  const [first] = units
  const startedAt = first!.startedAt
  const ends = units.map((unit) => unit.startedAt + unit.ms - startedAt)
  const { placeOf, busyMs } = axisOf(units.map((unit, index) => [unit.startedAt - startedAt, ends[index]!] as const))
  const ms = Math.max(...ends)
  const place = (atMs: number, lengthMs: number): Place => {
    const from = placeOf(atMs)
    return { atMs, from, share: Math.max(0, placeOf(atMs + lengthMs) - from) }
  }
  return {
    id: traceIdOf(first!),
    startedAt,
    ms,
    idleMs: Math.max(0, ms - busyMs),
    units: units.map(({ steps, traceparent, parent, startedAt: began, ...unit }) => {
      const atMs = began - startedAt
      return {
        ...unit,
        ...spanIdsOf({ traceparent, parent }),
        ...place(atMs, unit.ms),
        steps: [...steps]
          .sort((a, b) => a.atMs - b.atMs || Number(a.inLoad) - Number(b.inLoad))
          .map((step) => ({
            ...step,
            text: step.text?.replace(/\s+/g, ' ').trim(),
            ...place(atMs + Math.max(0, step.atMs), step.ms),
          })),
      }
    }),
  }
}

/** The axis has only times in which something ran: a job that runs an hour after its request would leave nothing to see. */
function axisOf(intervals: readonly (readonly [from: number, to: number])[]) {
  const busy: { from: number; to: number; before: number }[] = []
  let busyMs = 0
  for (const [from, to] of intervals) {
    const last = busy.at(-1)
    if (last && from <= last.to) {
      busyMs += Math.max(0, to - last.to)
      last.to = Math.max(last.to, to)
    } else {
      busy.push({ from, to, before: busyMs })
      busyMs += to - from
    }
  }
  const placeOf = (at: number): number => {
    const found = busy.findLast(({ from }) => at >= from) ?? busy[0]!
    const within = found.before + Math.min(Math.max(0, at - found.from), found.to - found.from)
    return busyMs > 0 ? within / busyMs : 0
  }
  return { placeOf, busyMs }
}
