import { isChange } from '../chaos/changes.ts'
import type { Outcome, Round } from '../chaos/experiment.ts'
import type { FleetPart, Kind } from '../chaos/fault.ts'
import { groupOf } from '../chaos/parts.ts'
import { longestSilence } from '../chaos/silence.ts'
import type { Operation } from '../history/operation.ts'
import { lastLook } from './sessions.ts'

/** `fine`: nobody noticed. `degraded`: a request was slow or failed. `error`: for a while nothing was answered, or a part stayed away. */
export type Effect = 'fine' | 'degraded' | 'error'

/** What the faults of a round did. All times are in ms since the first session. */
export interface FaultFinding {
  faults: readonly { fault: string; part: string; error?: string }[]
  /** From its beginning until all parts ran again. */
  from: number
  to: number
  /** The longest time without an answer that was a success, in ms. */
  readsSilentMs: number
  writesSilentMs: number
  /** How long a part was away that nothing could stand in for, in ms. */
  downMs: number
  /** Share of requests that had none, without those that the app refused (400, 403, 404, 409, 422). */
  failing: number
  whole: boolean
  /** How long parts took to run again after it, in ms; `null`: they did not. */
  wholeAfterMs: number | null
  effect: Effect
}

type Part = Pick<FleetPart, 'name' | 'kind'>

/**
 * Returns what each round of faults did. Pure.
 * @param operations with times since the first session
 * @param endedAt no session began later
 */
export function faultFindings(
  rounds: readonly Round[],
  operations: readonly Operation[],
  endedAt: number,
  parts: readonly Part[],
): FaultFinding[] {
  const successes = { reads: successesOf(operations, isRead), writes: successesOf(operations, isWrite) }
  return rounds.map((round, index) => {
    const { faults, beganAtMs: from, endedAtMs: to, wholeAfterMs } = round
    const during = operations.filter((one) => one.endedAt >= from && one.beganAt <= to)
    const failed = during.filter((one) => one.outcome !== 'ok' && !isRefusal(one))
    // What another fault does, or nobody sees since the sessions are over, is not this one's.
    const until = Math.min(endedAt, rounds[index + 1]?.beganAtMs ?? Number.POSITIVE_INFINITY)
    const silent = (isOne: (one: Operation) => boolean, answers: readonly number[]) =>
      during.some(isOne) ? longestSilence(answers, from, to, until) : 0
    const readsSilentMs = silent(isRead, successes.reads)
    const writesSilentMs = silent(isWrite, successes.writes)
    const isSlow = during.some((one) => one.endedAt - one.beganAt > slowMs)
    const alone = faults.filter((one) => !hasStandIn(one, faults, parts))
    const whole = wholeAfterMs !== null
    return {
      faults: faults.map(({ fault, part, error }) => ({ fault, part, ...(error !== undefined && { error }) })),
      ...{ from, to, readsSilentMs, writesSilentMs, downMs: lengthOf(alone), whole, wholeAfterMs },
      failing: during.length === 0 ? 0 : failed.length / during.length,
      effect:
        !whole || Math.max(readsSilentMs, writesSilentMs) > errorAfterMs
          ? 'error'
          : failed.length > 0 || isSlow
            ? 'degraded'
            : 'fine',
    }
  })
}

/** Beyond the time of faults that nothing can stand in for. A failover is over by then, and a restart of any part. In ms. */
export const silentMsMax = 5_000

/** Returns the reads of sessions that something could answer: nothing was away, or something stood in for it, or it had been back for a while. */
export function answerable(operations: readonly Operation[], faults: readonly FaultFinding[]): Operation[] {
  const inSessions = operations.filter((one) => isRead(one) && one.beganAt >= 0 && one.session !== lastLook)
  return inSessions.filter(({ beganAt, endedAt }) => {
    const rounds = faults.filter(({ from, to }) => endedAt >= from && beganAt <= to)
    if (rounds.length > 0) return rounds.every(({ downMs }) => downMs === 0)
    return !faults.some(({ to, downMs }) => downMs > 0 && beganAt > to && beganAt <= to + silentMsMax)
  })
}

/** The app has said no, as it may without any fault. */
const isRefusal = ({ outcome, error = '' }: Operation) => outcome === 'fail' && /^(400|403|404|409|422) /.test(error)

export const isRead = ({ kind }: Operation) => kind === 'read' || kind === 'list'
export const isWrite = (operation: Operation) => !isRead(operation)

/** Where somebody would look whether the app is down, and where a request is felt as slow. */
const errorAfterMs = 2_000
const slowMs = 1_000

/** What strikes all of a database, whichever server has the part's name. */
const strikesAll = new Set(['lock', 'exhaust', 'disk-full'])
/** Changes that take the web processes away, one after the other. */
const restartsWeb = new Set(['roll', 'deploy'])
/** No request needs them. */
const besideRequests = new Set<Kind>(['redis', 'nats', 'worker', 'archiver'])

/** Whether something can stand in for the part that a fault strikes: another one that no fault of the round strikes. */
function hasStandIn({ fault, part }: Outcome, round: readonly Outcome[], parts: readonly Part[]): boolean {
  const kindOf = (of: string) => parts.find(({ name }) => name === of)?.kind ?? (of as Kind)
  const left = (kind: Kind) => {
    const isOne = (name: string) => kindOf(name) === kind && groupOf(name) === groupOf(part)
    const struck = new Set(round.filter((one) => !isChange(one.fault)).map((one) => one.part))
    const away = [...struck].filter(isOne).length
    const restarting = kind === 'web' && round.some((one) => restartsWeb.has(one.fault)) ? 1 : 0
    return parts.filter(({ name }) => isOne(name)).length - away - restarting
  }
  const kind = kindOf(part)
  if (isChange(fault) || besideRequests.has(kind)) return true
  if (kind === 'primary') return left('replica') > 0 && !strikesAll.has(fault)
  if (kind === 'replica') return left('replica') + left('primary') > 0
  return left(kind) > 0
}

/** How long at least one of them was in force, in ms. */
function lengthOf(faults: readonly Outcome[]): number {
  let [length, until] = [0, Number.NEGATIVE_INFINITY]
  for (const { fromMs = 0, heldMs = 0 } of faults.toSorted((a, b) => (a.fromMs ?? 0) - (b.fromMs ?? 0))) {
    length += Math.max(0, fromMs + heldMs - Math.max(fromMs, until))
    until = Math.max(until, fromMs + heldMs)
  }
  return length
}

/** When operations ended well, in order. */
function successesOf(operations: readonly Operation[], isOne: (one: Operation) => boolean): number[] {
  const good = operations.filter((one) => one.outcome === 'ok' && isOne(one))
  return good.map(({ endedAt }) => endedAt).sort((a, b) => a - b)
}
