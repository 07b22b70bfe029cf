import { type Clock, systemClock } from '../../kernel/clock.ts'
import { type Limiter, type Quota, type SlotReceipt, slotMsOf, type Verdict } from './contract.ts'

interface Counted {
  /** Those that are not empty, the oldest first. `last`: the time of the last admission. */
  slots: { slot: number; count: number; last: number }[]
  /** When all of it has left the window. */
  endsAt: number
}

/** A key takes about 200 bytes. Beyond this number the key that has been quiet for longest is forgotten. */
const keysMax = 200_000

/** Counts in this process, for an app that has only one. A restart forgets them. */
export function memoryLimiter(clock: Clock = systemClock, max = keysMax): Limiter<SlotReceipt> {
  const known = new Map<string, Counted>()

  function take({ key, max: limit, windowMs }: Quota): Verdict<SlotReceipt> {
    const now = clock.ticks()
    const slotMs = slotMsOf(windowMs)
    const slot = Math.floor(now / slotMs)
    const counted = known.get(key) ?? { slots: [], endsAt: 0 }
    while (counted.slots.length > 0 && counted.slots[0]!.last <= now - windowMs) counted.slots.shift()
    let used = counted.slots.reduce((sum, { count }) => sum + count, 0)
    const admitted = used < limit
    if (admitted) {
      used += 1
      const latest = counted.slots.at(-1)
      if (latest?.slot === slot) {
        latest.count += 1
        latest.last = now
      } else counted.slots.push({ slot, count: 1, last: now })
      counted.endsAt = now + windowMs
      known.delete(key) // moves it to the end: the first key has been quiet for longest
      known.set(key, counted)
      if (known.size > max) known.delete(known.keys().next().value!)
    }
    const nextMs = untilLeft(counted, used - limit + 1, now, windowMs)
    return { admitted, used, nextMs, receipt: admitted ? { key, slot } : undefined }
  }

  function giveBack({ key, slot }: SlotReceipt): void {
    const found = known.get(key)?.slots.find((one) => one.slot === slot)
    if (found && found.count > 0) found.count -= 1
  }

  return {
    take: async (quotas) => quotas.map(take),
    giveBack: async (receipts) => receipts.forEach(giveBack),
    async prune() {
      const before = known.size
      const now = clock.ticks()
      for (const [key, { endsAt }] of known) if (endsAt <= now) known.delete(key)
      return before - known.size
    },
  }
}

/** Returns the time until `n` units (at least one) have left the window. */
function untilLeft({ slots }: Counted, n: number, now: number, windowMs: number): number {
  let left = 0
  const leaving = slots.find(({ count }) => {
    left += count
    return left >= Math.max(1, n)
  })
  return leaving ? windowMs - (now - leaving.last) : 0
}
