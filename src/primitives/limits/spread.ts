import { placeOf } from '../../kernel/spread.ts'
import type { Limiter, Quota, Verdict } from './contract.ts'

interface Placed<Receipt> {
  place: number
  receipt: Receipt
}

/** Spreads keys over several stores, each of which counts its own: one that fails takes only its keys along. */
export function spreadLimiter<Receipt>(limiters: readonly Limiter<Receipt>[]): Limiter<Placed<Receipt>> {
  /** Returns what belongs to each store, in the given order. */
  function apart<T>(all: readonly T[], at: (one: T) => number): T[][] {
    const parts = limiters.map((): T[] => [])
    for (const one of all) parts[at(one)]!.push(one)
    return parts
  }
  return {
    async take(quotas) {
      const at = ({ key }: Quota) => placeOf(key, limiters.length)
      const parts = apart(quotas, at)
      const taken = await Promise.all(
        parts.map(async (part, place) => (part.length > 0 ? limiters[place]!.take(part) : [])),
      )
      return quotas.map((quota): Verdict<Placed<Receipt>> => {
        const place = at(quota)
        const { receipt, ...verdict } = taken[place]!.shift()!
        return { ...verdict, receipt: receipt === undefined ? undefined : { place, receipt } }
      })
    },
    async giveBack(receipts) {
      const parts = apart(receipts, ({ place }) => place)
      const back = parts.map(async (part, place) => {
        if (part.length > 0) await limiters[place]!.giveBack(part.map(({ receipt }) => receipt))
      })
      await Promise.all(back)
    },
    async prune(max) {
      const pruned = await Promise.all(limiters.map((one) => one.prune(max)))
      return pruned.reduce((sum, count) => sum + count, 0)
    },
  }
}
