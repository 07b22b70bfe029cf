import { sleep, systemClock } from '../kernel/clock.ts'
import { isRungError, messageOf } from '../kernel/errors.ts'
import type { FleetPart } from './fault.ts'
import { faultCalled } from './faults.ts'
import { fleetParts, partsCalled, processOf, untilWhole } from './parts.ts'
import type { Planned } from './schedule.ts'
import { hold } from './strike.ts'

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
  /** From the end of the faults until all parts ran again, in ms; `null` if that took too long. */
  readonly wholeAfterMs: number | null
  /** The longest time in which no request to the fleet was answered, in ms. */
  readonly silentMs: number
}

export interface RunOptions {
  dataDir: string
  /** Where clients connect. */
  url: string
  /** No round begins later than this, in ms since the beginning of all. Default: all rounds are run. */
  noneAfterMs?: number
  over: AbortSignal
  tell(text: string): void
}

/** A restart of Postgres may replay its log. */
export const wholeWithinMs = 60_000

/** Injects the faults of a schedule at their times. Ends early if the fleet does not become whole, or by `over`. */
export async function runSchedule(planned: readonly Planned[], options: RunOptions): Promise<Round[]> {
  const { dataDir, url, over, tell, noneAfterMs = Number.POSITIVE_INFINITY } = options
  const began = systemClock.ticks()
  const client = watchAnswers(url)
  const rounds: Round[] = []
  try {
    for (const faults of Map.groupBy(planned, ({ round }) => round).values()) {
      const first = faults[0]!.atMs
      await until(began + first, over)
      const lateMs = systemClock.ticks() - began - first
      if (over.aborted || first + lateMs > noneAfterMs) break
      client.take()
      const outcomes = await Promise.all(
        faults.map(async (one) => {
          await until(began + lateMs + one.atMs, over)
          return strikePlanned(one, began, options)
        }),
      )
      const wholeAfterMs = (await untilWhole(dataDir, wholeWithinMs, over)) ?? null
      const beganAtMs = Math.round(first + lateMs)
      rounds.push({ faults: outcomes, beganAtMs, wholeAfterMs, silentMs: client.take() })
      if (wholeAfterMs !== null) continue
      if (!over.aborted) tell('Not all parts run again, so the run ends. See: rung ps')
      break
    }
    return rounds
  } finally {
    client.end()
  }
}

const until = (ticks: number, over: AbortSignal) =>
  sleep(Math.max(0, ticks - systemClock.ticks()), over).catch(() => {})

async function strikePlanned(one: Planned, began: number, { dataDir, over, tell }: RunOptions): Promise<Outcome> {
  if (over.aborted) return { ...one, error: 'It was ended before.' }
  try {
    const fault = faultCalled(one.fault)
    const part = await runningPart(one.part, dataDir, over)
    const options = { dataDir, strength: fault.strength?.default ?? '', forMs: one.forMs, over }
    const fromMs = Math.round(systemClock.ticks() - began)
    const { struck, heldMs } = await hold(fault, [part], options, ({ name }, did) =>
      tell(`${one.fault} ${name}: ${did}`),
    )
    return { ...one, did: struck[0]!.did, fromMs, heldMs }
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

const askEveryMs = 50
const answerWithinMs = 2_000

/**
 * Asks a fleet again and again, as a client does, and measures how long it does not answer. Each question has an address of its own, so that
 * a process answers it and no cache does; that it is not found is an answer too.
 */
function watchAnswers(url: string) {
  const ending = new AbortController()
  let answeredAt = systemClock.ticks()
  let longestMs = 0
  let count = 0
  async function ask(): Promise<void> {
    const late = AbortSignal.timeout(answerWithinMs)
    count += 1
    const ok = await fetch(`${url}/?rung-chaos=${count}`, { signal: AbortSignal.any([late, ending.signal]) }).then(
      async (answer) => {
        await answer.body?.cancel()
        return answer.status < 500
      },
      () => false,
    )
    const now = systemClock.ticks()
    if (!ok) return
    longestMs = Math.max(longestMs, now - answeredAt)
    answeredAt = now
  }
  const asking = (async () => {
    for (;;) {
      await ask()
      await sleep(askEveryMs, ending.signal)
    }
  })()
  asking.catch(() => {}) // it ends by its signal
  return {
    /** Returns the longest time without an answer since the last call. */
    take(): number {
      const ms = Math.round(Math.max(longestMs, systemClock.ticks() - answeredAt))
      longestMs = 0
      return ms
    },
    end: () => ending.abort(),
  }
}
