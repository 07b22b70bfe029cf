import { slowRequestMs } from '../request-log.ts'
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

/** The last finished units of this process, within limits. */
export class TraceRing {
  readonly #recent: Shelf
  readonly #notable: Shelf

  constructor(limits: Partial<RingLimits> = {}) {
    const { recentMax, notableMax, bytesMax } = { ...defaults, ...limits }
    const share = notableMax / (recentMax + notableMax)
    this.#recent = new Shelf(recentMax, bytesMax * (1 - share))
    this.#notable = new Shelf(notableMax, bytesMax * share)
  }

  add(unit: Unit): void {
    const shelf = unit.failed || (unit.kind === 'request' && unit.ms >= slowRequestMs) ? this.#notable : this.#recent
    shelf.add(unit)
  }

  get units(): Unit[] {
    return [...this.#recent.units, ...this.#notable.units]
  }
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
