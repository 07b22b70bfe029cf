import { type Clock, systemClock } from '../../kernel/clock.ts'
import { type Ask, type Limiter, slotMsOf, slotsOfWindow, type Taken, type Verdict } from './contract.ts'

/** Counts of the slots that are not empty, the oldest first. */
interface Counted {
  slots: number[]
  counts: number[]
  /** When all of it has left the window, ms. */
  endsAt: number
}

/** An address costs some 200 bytes. Beyond this the one that has been quiet for longest is forgotten. */
const keysMax = 200_000

/** Counts in this process: right where it is the only one that takes requests. A restart forgets them. */
export function memoryLimiter(clock: Clock = systemClock, max = keysMax): Limiter {
  const known = new Map<string, Counted>()

  function take({ key, max: limit, windowMs }: Ask): Verdict {
    const now = clock.ticks()
    const slotMs = slotMsOf(windowMs)
    const slot = Math.floor(now / slotMs)
    const counted = known.get(key) ?? { slots: [], counts: [], endsAt: 0 }
    while (counted.slots.length > 0 && counted.slots[0]! < slot - slotsOfWindow) {
      counted.slots.shift()
      counted.counts.shift()
    }
    let used = counted.counts.reduce((sum, count) => sum + count, 0)
    const admitted = used < limit
    if (admitted) {
      used += 1
      const last = counted.slots.length - 1
      if (counted.slots[last] === slot) counted.counts[last]! += 1
      else {
        counted.slots.push(slot)
        counted.counts.push(1)
      }
      counted.endsAt = (slot + slotsOfWindow + 1) * slotMs
      known.delete(key) // to the end: the first one is the one that has been quiet for longest
      known.set(key, counted)
      if (known.size > max) known.delete(known.keys().next().value!)
    }
    return { admitted, used, nextMs: nextAt(counted, used - limit + 1, slotMs) - now, slot }
  }

  function giveBack({ key, slot }: Taken): void {
    const counted = known.get(key)
    const at = counted?.slots.indexOf(slot) ?? -1
    if (counted && at >= 0 && counted.counts[at]! > 0) counted.counts[at]! -= 1
  }

  return {
    take: async (asks) => asks.map(take),
    giveBack: async (taken) => taken.forEach(giveBack),
    async prune() {
      const before = known.size
      const now = clock.ticks()
      for (const [key, { endsAt }] of known) if (endsAt <= now) known.delete(key)
      return before - known.size
    },
  }
}

/** When `n` (at least one) of what was counted has left the window. */
function nextAt({ slots, counts }: Counted, n: number, slotMs: number): number {
  let left = 0
  const at = counts.findIndex((count) => {
    left += count
    return left >= Math.max(1, n)
  })
  return at < 0 ? 0 : (slots[at]! + slotsOfWindow + 1) * slotMs
}
