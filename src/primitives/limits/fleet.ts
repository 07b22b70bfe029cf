import { type Clock, systemClock } from '../../kernel/clock.ts'

/** How many processes take requests: what a share is a share of. */
export interface Fleet {
  readonly size: number
  /** Called with every request; calls the roll now and then. */
  seen(): void
}

const everyMs = 2_000
/** Who has taken no request for so long needs no share. */
const lastingMs = 30_000

export const alone: Fleet = { size: 1, seen() {} }

/**
 * Raises `size` at once. Lowers it only after a lower count has been reported for `lastingMs`, because a restarted Redis knows no process
 * until all have reported again. Keeps the last count while Redis does not answer.
 */
export function countFleet(callRoll: (lastingMs: number) => Promise<number>, clock: Clock = systemClock): Fleet {
  let size = 1
  let askedAt = Number.NEGATIVE_INFINITY
  let fewerSince: number | undefined

  function heard(count: number): void {
    const now = clock.ticks()
    if (count < size) {
      fewerSince ??= now
      if (now - fewerSince < lastingMs) return
    }
    size = Math.max(1, count)
    fewerSince = undefined
  }

  return {
    get size() {
      return size
    },
    seen() {
      const now = clock.ticks()
      if (now - askedAt < everyMs) return
      askedAt = now
      callRoll(lastingMs).then(heard, () => {
        fewerSince = undefined
      })
    },
  }
}
