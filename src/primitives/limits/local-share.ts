import { type Clock, systemClock } from '../../kernel/clock.ts'
import type { Database } from '../data/contract.ts'
import { tellLimit } from './channels.ts'
import type { Limiter, Quota, Verdict } from './contract.ts'

export interface LocalShareOptions {
  database: Database
  /** How many processes answer requests. */
  processes: number
  clock?: Clock
}

/** After a failure one request at a time tries the shared counts again, this often. The others do not wait for it. */
const retryEveryMs = 500

interface Receipts<Shared, Local> {
  shared: Shared | undefined
  local: Local | undefined
}

/**
 * Counts that all processes share. While they cannot be reached each process admits its share: the limit divided by the number of
 * processes, at least 1.
 *
 * A process always counts what it admits, so that it knows in a failure what it has just admitted. After a failure the shared counts may
 * have been lost, and they lack what was admitted without them: for one window more both counts must admit.
 */
export function withLocalShare<Shared, Local>(
  shared: Limiter<Shared>,
  local: Limiter<Local>,
  { database, processes, clock = systemClock }: LocalShareOptions,
): Limiter<Receipts<Shared, Local>> {
  let isDown = false
  let failedAt = Number.NEGATIVE_INFINITY
  let retryAt = Number.NEGATIVE_INFINITY

  function failed(error: unknown): void {
    isDown = true
    failedAt = clock.ticks()
    retryAt = failedAt + retryEveryMs
    tellLimit({ database, outcome: 'unavailable', limit: '', error })
  }

  async function takeShared(quotas: readonly Quota[]): Promise<Verdict<Shared>[] | undefined> {
    const now = clock.ticks()
    if (isDown && now < retryAt) return undefined
    retryAt = now + retryEveryMs
    try {
      const verdicts = await shared.take(quotas)
      isDown = false
      return verdicts
    } catch (error) {
      failed(error)
      return undefined
    }
  }

  /** `verdict`: that of the shared counts, where they could be reached. */
  async function takeLocal(quota: Quota, verdict?: Verdict<Shared>): Promise<Verdict<Receipts<Shared, Local>>> {
    if (verdict && !verdict.admitted) return { ...verdict, receipt: undefined }
    const isSharedSure = verdict !== undefined && clock.ticks() - failedAt > quota.windowMs
    const max = isSharedSure ? Number.POSITIVE_INFINITY : Math.max(1, Math.floor(quota.max / processes))
    const [own] = await local.take([{ ...quota, max }])
    if (verdict && isSharedSure) return { ...verdict, receipt: { shared: verdict.receipt, local: own!.receipt } }
    const used = quota.max - max + own!.used // so that the client is told what is left to it here
    if (!own!.admitted) {
      if (verdict) shared.giveBack([verdict.receipt!]).catch(failed)
      return { ...own!, used, receipt: undefined }
    }
    return {
      ...(verdict ?? own!),
      used: Math.max(used, verdict?.used ?? 0),
      receipt: { shared: verdict?.receipt, local: own!.receipt },
    }
  }

  return {
    async take(quotas) {
      const verdicts = await takeShared(quotas)
      return Promise.all(quotas.map((quota, n) => takeLocal(quota, verdicts?.[n])))
    },
    async giveBack(receipts) {
      await local.giveBack(receipts.flatMap((each) => each.local ?? []))
      const ofShared = receipts.flatMap((each) => each.shared ?? [])
      if (ofShared.length > 0) await shared.giveBack(ofShared).catch(failed) // then they count until they leave the window
    },
    prune: () => local.prune(), // the shared counts are upkeep of their store
  }
}
