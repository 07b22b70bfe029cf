import { sleep, systemClock } from '../kernel/clock.ts'
import { type Fault, type FleetPart, refused, type Target } from './fault.ts'
import { openRecord } from './records.ts'

/** A fault that is in force. */
export interface Injection {
  /** What was done, as a phrase. */
  readonly did: string
  /** @throws CHAOS_NOT_UNDONE */
  undo(): Promise<void>
}

/** Injects a fault, and resolves once it has taken effect. @throws CHAOS_NO_EFFECT, CHAOS_REFUSED, and nothing of it is left */
export async function inject(fault: Fault, target: Target): Promise<Injection> {
  const problem = await fault.problem?.(target.dataDir)
  if (problem !== undefined) throw refused(`${fault.name} cannot be injected here. ${problem}`)
  const record = await openRecord(target.dataDir, fault.name, target.part.name)
  try {
    const { did, release } = await fault.inject(target, record.add)
    return {
      did,
      async undo() {
        // First what outlives this process: clients must not be led to a proxy that has gone.
        await record.close().finally(release)
      },
    }
  } catch (error) {
    await record.close()
    throw error
  }
}

export interface InjectOptions {
  dataDir: string
  strength: string
  forMs: number
  /** When aborted, it is undone at once. */
  over: AbortSignal
}

/**
 * Injects a fault into parts, one after the other, and undoes it after its time.
 * @param tell called when it is in force on a part
 * @returns what was done to which part, and for how long
 */
export async function injectFor(
  fault: Fault,
  parts: readonly FleetPart[],
  { dataDir, strength, forMs, over }: InjectOptions,
  tell: (part: FleetPart, did: string) => void,
): Promise<{ injected: { part: string; did: string }[]; heldMs: number }> {
  const injected: { part: string; did: string }[] = []
  const inForce: Injection[] = []
  const began = systemClock.ticks()
  async function injectAll(): Promise<void> {
    for (const part of parts) {
      if (over.aborted) break
      const one = await inject(fault, { dataDir, part, strength })
      inForce.push(one)
      injected.push({ part: part.name, did: one.did })
      tell(part, one.did)
    }
    if (fault.lasts) await sleep(forMs, over).catch(() => {}) // it ends early
  }
  const outcomes = await Promise.allSettled([injectAll()])
  const undone = await Promise.allSettled(inForce.map((one) => one.undo()))
  const failed = [...outcomes, ...undone].find((outcome) => outcome.status === 'rejected')
  if (failed) throw failed.reason
  return { injected, heldMs: Math.round(systemClock.ticks() - began) }
}
