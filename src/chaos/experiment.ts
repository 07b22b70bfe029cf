import { sleep, systemClock } from '../kernel/clock.ts'
import { isRungError, messageOf } from '../kernel/errors.ts'
import type { FleetPart } from './fault.ts'
import { faultCalled } from './faults.ts'
import { injectFor } from './inject.ts'
import { fleetParts, partsCalled, processOf, untilWhole } from './parts.ts'
import type { Planned } from './schedule.ts'

/** What became of a planned fault. */
export interface Outcome extends Planned {
  /** What was done. */
  readonly did?: string
  /** When its injection began, in ms since the beginning of all. */
  readonly fromMs?: number
  /** From then until it was undone, in ms. */
  readonly heldMs?: number
  /** Why it did not take effect, or was not undone. */
  readonly error?: string
}

export interface Round {
  readonly faults: readonly Outcome[]
  /** When its first fault was about to be injected, in ms since the beginning of all. */
  readonly beganAtMs: number
  /** When all parts ran again, or were no longer waited for. */
  readonly endedAtMs: number
  /** From the end of the faults until all parts ran again, in ms; `null` if that took too long. */
  readonly wholeAfterMs: number | null
}

export interface RunOptions {
  dataDir: string
  /** The beginning of all, from which times count, in ticks. Default: now. */
  began?: number
  /** No round begins later than this, in ms since the beginning of all. Default: all rounds are run. */
  noneAfterMs?: number
  over: AbortSignal
  tell(text: string): void
}

/** A restart of Postgres may replay its log. */
export const wholeWithinMs = 60_000

/** Injects the faults of a schedule at their times. Ends early if the fleet does not become whole, or by `over`. */
export async function runSchedule(planned: readonly Planned[], options: RunOptions): Promise<Round[]> {
  const { dataDir, began = systemClock.ticks(), over, tell, noneAfterMs = Number.POSITIVE_INFINITY } = options
  const sinceBegan = () => Math.round(systemClock.ticks() - began)
  const rounds: Round[] = []
  for (const faults of Map.groupBy(planned, ({ round }) => round).values()) {
    const first = faults[0]!.atMs
    await until(began + first, over)
    const beganAtMs = sinceBegan()
    if (over.aborted || beganAtMs > noneAfterMs) break
    const outcomes = await Promise.all(
      faults.map(async (one) => {
        await until(began + beganAtMs + one.atMs - first, over)
        return injectPlanned(one, began, options)
      }),
    )
    const wholeAfterMs = (await untilWhole(dataDir, wholeWithinMs, over)) ?? null
    rounds.push({ faults: outcomes, beganAtMs, endedAtMs: sinceBegan(), wholeAfterMs })
    if (wholeAfterMs !== null) continue
    if (!over.aborted) tell('Not all parts run again, so no further fault is injected.')
    break
  }
  return rounds
}

const until = (ticks: number, over: AbortSignal) =>
  sleep(Math.max(0, ticks - systemClock.ticks()), over).catch(() => {})

async function injectPlanned(one: Planned, began: number, { dataDir, over, tell }: RunOptions): Promise<Outcome> {
  if (over.aborted) return { ...one, error: 'It was ended before.' }
  try {
    const fault = faultCalled(one.fault)
    const part = await runningPart(one.part, dataDir, over)
    const options = { dataDir, strength: fault.strength?.default ?? '', forMs: one.forMs, over }
    const fromMs = Math.round(systemClock.ticks() - began)
    const { injected, heldMs } = await injectFor(fault, [part], options, ({ name }, did) =>
      tell(`${one.fault} ${name}: ${did}`),
    )
    return { ...one, did: injected[0]!.did, fromMs, heldMs }
  } catch (error) {
    return { ...one, error: messageOf(error) }
  }
}

const runsWithinMs = 30_000

/** The other fault of a pair may have taken it away for a while. */
async function runningPart(name: string, dataDir: string, over: AbortSignal): Promise<FleetPart> {
  for (const giveUpAt = systemClock.ticks() + runsWithinMs; ; await sleep(50)) {
    try {
      const [part] = partsCalled(await fleetParts(dataDir), [name])
      processOf(part!)
      return part!
    } catch (error) {
      const isAway = isRungError(error, 'CHAOS_NO_EFFECT') || isRungError(error, 'COMMAND_INVALID')
      if (!isAway || over.aborted || systemClock.ticks() > giveUpAt) throw error
    }
  }
}
