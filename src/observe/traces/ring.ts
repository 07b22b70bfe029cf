import { type Clock, systemClock } from '../../kernel/clock.ts'
import { slowRequestMs } from '../request-log.ts'
import { findUnits, listUnits, type TracesAnswer, type TracesQuery } from './list.ts'
import type { Unit } from './unit.ts'

export interface RingLimits {
  /** Units that are kept, whatever they are. */
  recentMax: number
  /** Failed and slow ones are kept apart, so that a busy process does not forget them within a second. */
  notableMax: number
  /** About how much memory all of them may use. */
  bytesMax: number
}

const defaults: RingLimits = { recentMax: 750, notableMax: 250, bytesMax: 8 * 1024 ** 2 }

/** All units are kept for this long after a look. */
const awakeMs = 10 * 60_000

/**
 * The last finished units of this process, within limits. Keeping all of them costs a small request a few percent of its CPU, so all are kept
 * only for ten minutes after somebody has looked. Otherwise it keeps what failed or was slow, and one trace of sixteen, the same one in each
 * process.
 */
export class TraceRing {
  readonly #recent: Shelf
  readonly #notable: Shelf
  readonly #clock: Pick<Clock, 'now' | 'ticks'>
  #awakeUntil: number
  #allSince = 0

  /** @param always keep all, also while nobody looks */
  constructor({
    always = false,
    clock = systemClock,
    ...limits
  }: Partial<RingLimits> & { always?: boolean; clock?: Pick<Clock, 'now' | 'ticks'> } = {}) {
    const { recentMax, notableMax, bytesMax } = { ...defaults, ...limits }
    const share = notableMax / (recentMax + notableMax)
    this.#recent = new Shelf(recentMax, bytesMax * (1 - share))
    this.#notable = new Shelf(notableMax, bytesMax * share)
    this.#clock = clock
    this.#awakeUntil = always ? Number.POSITIVE_INFINITY : Number.NEGATIVE_INFINITY
  }

  /** Returns what somebody asks for, and keeps all from now on. */
  answer(query: TracesQuery): TracesAnswer {
    const now = this.#clock.ticks()
    if (now >= this.#awakeUntil) this.#allSince = this.#clock.now()
    this.#awakeUntil = Math.max(this.#awakeUntil, now + awakeMs)
    const found = 'id' in query ? findUnits(this.units, query.id) : { units: listUnits(this.units, query), leftOut: 0 }
    return { ...found, allSince: this.#allSince }
  }

  /** Whether the steps of a unit that begins `now` are to be kept. */
  wants(traceparent: string, now: number): boolean {
    return now < this.#awakeUntil || traceparent[lastOfTraceId] === '0'
  }

  add(unit: Unit): void {
    const shelf = isNotable(unit.kind, unit.ms, unit.failed) ? this.#notable : this.#recent
    shelf.add(unit)
  }

  get units(): Unit[] {
    return [...this.#recent.units, ...this.#notable.units]
  }
}

/** In a `traceparent`. */
const lastOfTraceId = 34

/** Whether a unit is kept though its steps were not wanted. Jobs may be slow. */
export function isNotable(kind: Unit['kind'], ms: number, failed: boolean): boolean {
  return failed || (kind === 'request' && ms >= slowRequestMs)
}

/** Drops the oldest. */
class Shelf {
  readonly units: Unit[] = []
  readonly #max: number
  readonly #bytesMax: number
  #bytes = 0

  constructor(max: number, bytesMax: number) {
    this.#max = max
    this.#bytesMax = bytesMax
  }

  add(unit: Unit): void {
    this.units.push(unit)
    this.#bytes += bytesOf(unit)
    while (this.units.length > this.#max || this.#bytes > this.#bytesMax) this.#bytes -= bytesOf(this.units.shift()!)
  }
}

/** About: an object of V8 with this many fields, and its texts as if no two statements shared theirs. */
function bytesOf({ name, steps }: Unit): number {
  let bytes = 300 + 2 * name.length
  for (const { text } of steps) bytes += 120 + (text?.length ?? 0)
  return bytes
}
