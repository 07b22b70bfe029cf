import { type Clock, systemClock } from '../../kernel/clock.ts'
import type { Database } from '../data/contract.ts'
import { tellLimit } from './channels.ts'
import type { Ask, Limiter, Taken, Verdict } from './contract.ts'
import { alone, type Fleet } from './fleet.ts'

export interface InsuredOptions {
  database: Database
  fleet?: Fleet
  clock?: Clock
}

/** Where the shared counts failed, one request at a time tries them again, so often; the others do not wait for it. */
const restMs = 500
/** In place of a slot of the shared counts. */
const notShared = -1

/**
 * Where the shared counts cannot be reached, each process keeps to its share of the limit. It counts for itself all the time, so
 * that it knows then what it has just admitted. On their return the shared counts may have been lost, and they lack what was
 * admitted without them: so for one window more both must admit.
 */
export function insured(
  shared: Limiter,
  own: Limiter,
  { database, fleet = alone, clock = systemClock }: InsuredOptions,
): Limiter {
  let isDown = false
  let failedAt = Number.NEGATIVE_INFINITY
  let restUntil = Number.NEGATIVE_INFINITY

  function failed(error: unknown): void {
    isDown = true
    failedAt = clock.ticks()
    restUntil = failedAt + restMs
    tellLimit({ database, outcome: 'unavailable', limit: '', error })
  }

  async function askShared(asks: readonly Ask[]): Promise<Verdict[] | undefined> {
    const now = clock.ticks()
    if (now < restUntil) return undefined
    if (isDown) restUntil = now + restMs
    try {
      const verdicts = await shared.take(asks)
      isDown = false
      restUntil = Number.NEGATIVE_INFINITY
      return verdicts
    } catch (error) {
      failed(error)
      return undefined
    }
  }

  async function takeShare(ask: Ask): Promise<Verdict> {
    const share = Math.max(1, Math.floor(ask.max / fleet.size))
    const [verdict] = await own.take([{ ...ask, max: share }])
    // For whoever tells the client what is left to it.
    return { ...verdict!, used: ask.max - share + verdict!.used, slot: notShared, ownSlot: verdict!.slot }
  }

  async function both(ask: Ask, verdict: Verdict): Promise<Verdict> {
    if (!verdict.admitted) return verdict
    if (clock.ticks() - failedAt > ask.windowMs) {
      const [counted] = await own.take([{ ...ask, max: Number.POSITIVE_INFINITY }])
      return { ...verdict, ownSlot: counted!.slot }
    }
    const mine = await takeShare(ask)
    if (mine.admitted) return { ...verdict, used: Math.max(verdict.used, mine.used), ownSlot: mine.ownSlot }
    shared.giveBack([{ key: ask.key, slot: verdict.slot }]).catch(failed)
    return mine
  }

  return {
    async take(asks) {
      fleet.seen()
      const verdicts = await askShared(asks)
      return Promise.all(asks.map((ask, n) => (verdicts ? both(ask, verdicts[n]!) : takeShare(ask))))
    },
    async giveBack(taken) {
      await own.giveBack(taken.flatMap(({ key, ownSlot: slot }) => (slot === undefined ? [] : [{ key, slot }])))
      const known: Taken[] = taken.filter(({ slot }) => slot !== notShared)
      if (known.length > 0) await shared.giveBack(known).catch(failed) // then it counts until it leaves the window
    },
    prune: async () => (await own.prune()) + (await shared.prune()),
  }
}
