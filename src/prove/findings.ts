import { isChange } from '../chaos/changes.ts'
import type { Round } from '../chaos/experiment.ts'
import type { FleetPart } from '../chaos/fault.ts'
import { checkHistory, counterExample } from '../history/check.ts'
import type { ConservationOptions } from '../history/conservation.ts'
import type { Operation, Verdict } from '../history/operation.ts'
import { tell } from '../history/tell.ts'
import type { Proved } from './run.ts'

/** What a proof has found. Plain data. */
export interface Findings {
  held: boolean
  operations: number
  promises: readonly Finding[]
  faults: readonly FaultFinding[]
  /** By kind of fault, then by kind of part: the worst that was seen. */
  matrix: Readonly<Record<string, Readonly<Record<string, Effect>>>>
  anomalies: readonly { promise: string; checker: string; text: string; steps: readonly string[] }[]
}

export interface Finding {
  promise: string
  /** What it was compared with: `10,412 answers`. */
  checked: string
  /** The figure, and what it must not exceed. */
  figure: string
  target: string
  held: boolean
}

/** `fine`: nobody noticed. `degraded`: requests were slow, or single ones failed. `error`: for a while nothing was answered, or much failed. */
export type Effect = 'fine' | 'degraded' | 'error'

export interface FaultFinding {
  faults: readonly { fault: string; part: string; error?: string }[]
  /** From its beginning until all parts ran again, in ms since the first session. */
  from: number
  to: number
  /** The longest time without an answer that was a success, in ms. */
  readsSilentMs: number
  writesSilentMs: number
  /** How long a part was away that nothing can stand in for, in ms. */
  downMs: number
  /** Reads that failed although something could stand in for what was away. */
  readsFailed: number
  /** Share of requests that had none. */
  failing: number
  whole: boolean
  effect: Effect
}

const promises: readonly { promise: string; checkers: readonly string[] }[] = [
  {
    promise: 'A session sees what it wrote and saw',
    checkers: ['read-your-writes', 'monotonic-reads', 'writes-follow-reads'],
  },
  { promise: 'What is acknowledged is never lost', checkers: ['acknowledged-writes'] },
  { promise: 'Nothing is replaced unseen', checkers: ['no-lost-update'] },
  { promise: 'A request with a key has one effect', checkers: ['one-effect'] },
  { promise: 'Amounts neither appear nor vanish', checkers: ['conservation'] },
  { promise: 'Work for later is done, once', checkers: ['queue'] },
  { promise: 'Nothing old is shown for longer than said', checkers: ['bounded-staleness', 'no-stale-set'] },
]

/** Beyond the time of faults that nothing can stand in for. A failover is over by then, and a restart of any part. In ms. */
const silentMsMax = 5_000
const shownOfEach = 3

/** Judges what a proof has seen. Pure. */
export function findingsOf(
  { operations, beganAt, endedAt, rounds }: Pick<Proved, 'operations' | 'beganAt' | 'endedAt' | 'rounds'>,
  parts: readonly Pick<FleetPart, 'name' | 'kind'>[],
  conservation: ConservationOptions,
): Findings {
  const options = { conservation }
  const verdicts = checkHistory(operations, options)
  const named = new Map(verdicts.map((verdict) => [verdict.checker, verdict]))
  const successes = { reads: successesOf(operations, isRead), writes: successesOf(operations, isWrite) }
  const faults = rounds.map((round, index) => {
    // What another fault does, or nobody sees since the sessions are over, is not this one's.
    const until = Math.min(endedAt, beganAt + (rounds[index + 1]?.beganAtMs ?? Number.POSITIVE_INFINITY))
    return faultOf(round, until, operations, successes, beganAt, parts)
  })
  const found: Finding[] = promises.flatMap(({ promise, checkers }) => {
    const mine = checkers.flatMap((checker) => named.get(checker) ?? [])
    const checked = Math.max(0, ...mine.map((one) => one.checked)) // the same answers, by several checkers
    const count = mine.reduce((sum, one) => sum + one.count, 0)
    if (checked === 0 && count === 0) return []
    return [{ promise, checked: `${figure(checked)} answers`, figure: figure(count), target: '0', held: count === 0 }]
  })
  const isChecked = found.length > 0
  found.push(...faultPromises(faults, operations))
  const anomalies = promises.flatMap(({ promise, checkers }) =>
    checkers.flatMap((checker) => toldOf(named.get(checker), operations, options).map((one) => ({ promise, ...one }))),
  )
  return {
    // A verdict of nothing says nothing.
    held: (isChecked || faults.length > 0) && found.every(({ held }) => held),
    operations: operations.length,
    promises: found,
    faults,
    matrix: matrixOf(faults),
    anomalies,
  }
}

function toldOf(
  verdict: Verdict | undefined,
  operations: readonly Operation[],
  options: { conservation: ConservationOptions },
) {
  if (!verdict) return []
  const { checker } = verdict
  return verdict.anomalies.slice(0, shownOfEach).map((anomaly) => {
    const few = counterExample(operations, { checker, anomaly, options })
    return { checker, text: anomaly.text, steps: tell(few, operations) }
  })
}

function faultPromises(faults: readonly FaultFinding[], operations: readonly Operation[]): Finding[] {
  if (faults.length === 0) return []
  const injected = faults.flatMap((one) => one.faults)
  const most = (of: (one: FaultFinding) => number) => Math.max(0, ...faults.map((one) => of(one) - one.downMs))
  const [reads, writes] = [most((one) => one.readsSilentMs), most((one) => one.writesSilentMs)]
  const inVain = injected.filter(({ error }) => error !== undefined).length
  const failed = faults.reduce((sum, one) => sum + one.readsFailed, 0)
  const broken = faults.filter(({ whole }) => !whole).length
  const checked = `${faults.length} rounds`
  return [
    ...[
      { promise: 'Reads are answered again soon', figure: reads, isTried: operations.some(isRead) },
      { promise: 'Writes are answered again soon', figure: writes, isTried: operations.some(isWrite) },
    ].flatMap(({ promise, figure, isTried }) => {
      if (!isTried) return []
      return {
        promise,
        checked,
        figure: inSeconds(figure),
        target: inSeconds(silentMsMax),
        held: figure <= silentMsMax,
      }
    }),
    {
      promise: 'No read fails if something can stand in',
      ...{ checked, figure: `${failed}`, target: '0', held: failed === 0 },
    },
    {
      promise: 'All parts run again after each fault',
      ...{ checked, figure: `${broken} not`, target: '0', held: broken === 0 },
    },
    {
      promise: 'Each fault took effect',
      ...{ checked: `${injected.length} faults`, figure: `${inVain} not`, target: '0', held: inVain === 0 },
    },
  ]
}

function faultOf(
  round: Round,
  until: number,
  operations: readonly Operation[],
  successes: Readonly<Record<'reads' | 'writes', readonly number[]>>,
  beganAt: number,
  parts: readonly Pick<FleetPart, 'name' | 'kind'>[],
): FaultFinding {
  const { faults, beganAtMs, wholeAfterMs } = round
  const ends = faults.map(({ fromMs = beganAtMs, heldMs = 0 }) => fromMs + heldMs)
  const [from, to] = [beganAtMs, Math.max(beganAtMs, ...ends) + (wholeAfterMs ?? 0)]
  const during = operations.filter(({ beganAt: at, endedAt }) => endedAt - beganAt >= from && at - beganAt <= to)
  const failed = during.filter(({ outcome }) => outcome !== 'ok').length
  const failing = during.length === 0 ? 0 : failed / during.length
  const silent = (isOne: (one: Operation) => boolean, ends: readonly number[]) =>
    during.some(isOne) ? silenceIn(ends, beganAt + from, beganAt + to, until) : 0
  const readsSilentMs = silent(isRead, successes.reads)
  const writesSilentMs = silent(isWrite, successes.writes)
  const longest = Math.max(readsSilentMs, writesSilentMs)
  const slowest = Math.max(0, ...during.map(({ beganAt, endedAt }) => Math.min(endedAt, beganAt + 60_000) - beganAt))
  const whole = wholeAfterMs !== null
  const alone = faults.filter(({ fault, part }) => !hasStandIn(fault, part, parts))
  const readsFailed = alone.length > 0 ? 0 : during.filter((one) => isRead(one) && one.outcome !== 'ok').length
  const downMs = alone.reduce((sum, { heldMs = 0 }) => sum + heldMs, 0)
  return {
    faults: faults.map(({ fault, part, error }) => ({ fault, part, ...(error !== undefined && { error }) })),
    ...{ from, to, readsSilentMs, writesSilentMs, downMs, readsFailed, failing, whole },
    effect: !whole || longest > errorAfterMs ? 'error' : failed > 0 || slowest > slowMs ? 'degraded' : 'fine',
  }
}

/** What strikes all of a database, whichever server has the part's name. */
const strikesAll = new Set(['lock', 'exhaust', 'disk-full'])

/** Whether something can stand in for the part: another of its kind, or nothing, where no request needs it. */
function hasStandIn(fault: string, part: string, parts: readonly Pick<FleetPart, 'name' | 'kind'>[]): boolean {
  if (isChange(fault)) return true
  const kind = parts.find(({ name }) => name === part)?.kind ?? part
  const has = (other: string) => parts.some((one) => one.kind === other && one.name !== part)
  if (kind === 'primary') return has('replica') && !strikesAll.has(fault)
  return kind === 'web' ? has('web') : ['redis', 'worker', 'replica', 'archiver'].includes(kind)
}

/** Where somebody would look whether the app is down, and where a request is felt as slow. */
const errorAfterMs = 2_000
const slowMs = 1_000

const isRead = ({ kind }: Operation) => kind === 'read' || kind === 'list'
const isWrite = (operation: Operation) => !isRead(operation)

/**
 * Returns the longest time without a success that begins in the stretch, or is under way in its beginning. What goes on beyond its end counts
 * too, but not after `until`. Sessions act some thirty times in a second, which is the resolution.
 */
function silenceIn(successes: readonly number[], from: number, to: number, until: number): number {
  let longest = 0
  let since = from
  for (const at of successes) {
    if (at <= from) continue
    longest = Math.max(longest, Math.min(at, until) - since)
    since = at
    if (since >= to) break
  }
  if (since < to) longest = Math.max(longest, until - since) // there was none any more
  return Math.round(longest)
}

/** When operations ended well, in order. */
function successesOf(operations: readonly Operation[], kind: (one: Operation) => boolean): number[] {
  const good = operations.filter((one) => one.outcome === 'ok' && kind(one))
  return good.map(({ endedAt }) => endedAt).sort((a, b) => a - b)
}

const worst: Record<Effect, number> = { fine: 0, degraded: 1, error: 2 }

function matrixOf(faults: readonly FaultFinding[]): Findings['matrix'] {
  const matrix: Record<string, Record<string, Effect>> = {}
  for (const { faults: all, effect } of faults)
    for (const { fault, part, error } of all) {
      if (error !== undefined) continue
      matrix[fault] ??= {}
      const row = matrix[fault]
      const kind = part.replace(/-\d+$/, '')
      const known = row[kind]
      if (known === undefined || worst[effect] > worst[known]) row[kind] = effect
    }
  return matrix
}

/** The kinds of parts in a matrix, in order: its columns. */
export function kindsIn(matrix: Findings['matrix']): string[] {
  return [...new Set(Object.values(matrix).flatMap((row) => Object.keys(row)))].sort()
}

export const inSeconds = (ms: number) => `${(ms / 1_000).toFixed(1)} s`

const figure = (number: number) => number.toLocaleString('en')
