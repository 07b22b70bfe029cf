import type { Database } from '../data/contract.ts'
import { tellLimit } from './channels.ts'
import type { Limiter } from './contract.ts'

/** Where the shared counts cannot be reached, each process counts for itself: not exact, and never without a limit. */
export function insured(shared: Limiter, own: Limiter, database: Database): Limiter {
  function failed(error: unknown): void {
    tellLimit({ database, outcome: 'unavailable', limit: '', error })
  }

  return {
    take: (asks) =>
      shared.take(asks).catch((error) => {
        failed(error)
        return own.take(asks)
      }),
    giveBack: (taken) => shared.giveBack(taken).catch(failed), // then it counts until it leaves the window
    prune: async () => (await own.prune()) + (await shared.prune()),
  }
}
