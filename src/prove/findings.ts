import type { FleetPart } from '../chaos/fault.ts'
import { checkHistory, counterExample, type HistoryOptions } from '../history/check.ts'
import { groupsOf, type Operation, type Verdict } from '../history/operation.ts'
import { tellFew } from '../history/tell.ts'
import { answerable, type Effect, type FaultFinding, faultFindings, isRead, isWrite, silentMsMax } from './faults.ts'
import type { Proof } from './proof.ts'
import type { Proved } from './run.ts'
import { lastLook, onceOf } from './sessions.ts'

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

interface Promised {
  promise: string
  checkers: readonly string[]
  /** Whether the proof names something of which it is promised. */
  isNamed(proof: Named): boolean
  /** The kinds of operations that say what is promised. */
  writes: readonly Operation['kind'][]
  /** The kinds of answers of the last look without which nobody knows whether it was held. */
  needs: readonly string[]
}

type Named = Pick<Proof, 'registers' | 'collections' | 'once' | 'accounts' | 'queue'>

const promises: readonly Promised[] = [
  {
    promise: 'A session sees what it wrote and saw',
    checkers: ['read-your-writes', 'monotonic-reads', 'writes-follow-reads'],
    isNamed: ({ registers = [] }) => registers.length > 0,
    writes: [],
    needs: [],
  },
  {
    promise: 'What is acknowledged is never lost',
    checkers: ['acknowledged-writes'],
    isNamed: ({ registers = [], collections = [] }) => registers.length + collections.length > 0,
    writes: ['write', 'add'],
    needs: ['read', 'list'],
  },
  {
    promise: 'A request with a key has one effect',
    checkers: ['one-effect'],
    isNamed: ({ once = [] }) => once.length > 0,
    writes: ['send'],
    needs: ['effects'],
  },
  {
    promise: 'Amounts neither appear nor vanish',
    checkers: ['conservation'],
    isNamed: ({ accounts }) => accounts !== undefined,
    writes: ['change'],
    needs: ['levels'],
  },
  {
    promise: 'Work for later is done, once',
    checkers: ['queue'],
    isNamed: ({ queue }) => queue !== undefined,
    writes: ['publish'],
    needs: ['drain'],
  },
  {
    promise: 'Nothing old is shown for longer than said',
    checkers: ['bounded-staleness'],
    isNamed: ({ registers = [] }) => registers.some(({ staleMsMax }) => staleMsMax !== undefined),
    writes: [],
    needs: [],
  },
]
const allAnswers = 'Everything answers in the end'
const eachRead = 'No read fails that something can answer'

const shownOfEach = 3

/** Judges what a proof has seen. Pure. A promise of which nothing was checked is not held. */
export function findingsOf(
  { operations, endedAt, rounds }: Pick<Proved, 'operations' | 'endedAt' | 'rounds'>,
  parts: readonly Pick<FleetPart, 'name' | 'kind'>[],
  proof: Named,
): Findings {
  const least = proof.accounts?.least
  const options = { conservation: least === undefined ? {} : { least } }
  const named = new Map(checkHistory(operations, options).map((verdict) => [verdict.checker, verdict]))
  const looks = lastLooksOf(operations)
  const unanswered = looks.filter(({ outcome }) => outcome !== 'ok')
  const faults = faultFindings(rounds, operations, endedAt, parts)
  const reads = answerable(operations, faults)
  const failed = reads.filter(({ outcome }) => outcome !== 'ok')
  const vain = neverDone(operations, proof)
  const found: Finding[] = promises.flatMap(({ promise, checkers, isNamed, needs }) => {
    const mine = checkers.flatMap((checker) => named.get(checker) ?? [])
    const checked = Math.max(0, ...mine.map((one) => one.checked)) // the same answers, by several checkers
    const count = mine.reduce((sum, one) => sum + one.count, 0)
    if (!isNamed(proof) && count === 0) return []
    const isUnknown =
      unanswered.some((one) => needs.includes(kindOfLook(one))) || vain.some((one) => one.promise === promise)
    return {
      promise,
      checked: `${number(checked)} answers`,
      figure: isUnknown && count === 0 ? 'unknown' : number(count),
      target: '0',
      held: checked > 0 && count === 0 && !isUnknown,
    }
  })
  found.push({
    promise: allAnswers,
    checked: `${number(looks.length)} answers`,
    ...{ figure: `${unanswered.length} not`, target: '0', held: looks.length > 0 && unanswered.length === 0 },
  })
  if (reads.length > 0)
    found.push({
      promise: eachRead,
      checked: `${number(reads.length)} answers`,
      ...{ figure: number(failed.length), target: '0', held: failed.length === 0 },
    })
  found.push(...faultPromises(faults, operations))
  const anomalies = promises.flatMap(({ promise, checkers }) =>
    checkers.flatMap((checker) => toldOf(named.get(checker), operations, options).map((one) => ({ promise, ...one }))),
  )
  const silent = unanswered.slice(0, shownOfEach).map(({ kind, key, error = '' }) => {
    const text = `${key} (${kind}) did not answer, however often it was asked: ${error}`
    return { promise: allAnswers, checker: lastLook, text, steps: [] }
  })
  const alone = failed.slice(0, shownOfEach).map(({ kind, key, beganAt, error = 'no answer' }) => {
    const text = `${key} (${kind}) failed at ${inSeconds(beganAt)}: ${error}`
    return { promise: eachRead, checker: 'reads', text, steps: [] }
  })
  return {
    held: found.every(({ held }) => held),
    operations: operations.length,
    promises: found,
    faults,
    matrix: matrixOf(faults),
    anomalies: [...vain, ...anomalies, ...silent, ...alone],
  }
}

/** Returns what the proof names and what no session could do: it says nothing that none of it was lost. */
function neverDone(operations: readonly Operation[], proof: Named): Findings['anomalies'] {
  return promises.flatMap(({ promise, writes }) => {
    const tries = groupsOf(operations, (one) =>
      writes.includes(one.kind) && one.session !== lastLook && one.beganAt >= 0 ? nameOfWrite(one, proof) : undefined,
    )
    return [...tries].flatMap(([checker, all]) => {
      if (all.some(({ outcome }) => outcome === 'ok')) return []
      const text = `none of ${number(all.length)} requests succeeded: ${all[0]!.error ?? 'no answer'}`
      return { promise, checker, text, steps: [] }
    })
  })
}

/** Returns the name that the proof has for what was written. */
function nameOfWrite({ kind, key }: Operation, proof: Named): string | undefined {
  const { registers = [], collections = [], once = [], accounts, queue } = proof
  if (kind === 'publish') return queue?.name
  if (kind === 'change') return accounts?.name
  if (kind === 'send') return once[onceOf(key)]?.name
  const names = [...registers, ...collections].map(({ name }) => name).filter((name) => key.startsWith(`${name} `))
  return names.sort((a, b) => b.length - a.length)[0]
}

/** Returns the last try of each thing that the last look has asked for. */
function lastLooksOf(operations: readonly Operation[]): Operation[] {
  const looks = groupsOf(operations, (one) => {
    if (one.kind === 'drain') return 'drain'
    if (one.session !== lastLook) return undefined
    // What it writes has a new key with each try.
    return isAsked.has(one.kind) ? `${one.kind} ${one.key}` : 'write'
  })
  return [...looks.values()].map((tries) => tries.at(-1)!)
}

const isAsked = new Set<Operation['kind']>(['read', 'list', 'effects', 'levels'])

/** A page is listed too, and has nothing that could be lost. */
const kindOfLook = ({ kind, fresh }: Operation) => (kind === 'list' && !fresh ? 'page' : kind)

function toldOf(verdict: Verdict | undefined, operations: readonly Operation[], options: HistoryOptions) {
  if (!verdict) return []
  const { checker } = verdict
  return verdict.anomalies.slice(0, shownOfEach).map((anomaly) => {
    const few = counterExample(operations, { checker, anomaly, options })
    return { checker, text: anomaly.text, steps: tellFew(few, operations) }
  })
}

function faultPromises(faults: readonly FaultFinding[], operations: readonly Operation[]): Finding[] {
  if (faults.length === 0) return []
  const injected = faults.flatMap((one) => one.faults)
  const most = (of: (one: FaultFinding) => number) => Math.max(0, ...faults.map((one) => of(one) - one.downMs))
  const [reads, writes] = [most((one) => one.readsSilentMs), most((one) => one.writesSilentMs)]
  const inVain = injected.filter(({ error }) => error !== undefined).length
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
      promise: 'All parts run again after each fault',
      ...{ checked, figure: `${broken} not`, target: '0', held: broken === 0 },
    },
    {
      promise: 'Each fault took effect',
      ...{ checked: `${injected.length} faults`, figure: `${inVain} not`, target: '0', held: inVain === 0 },
    },
  ]
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

export const inSeconds = (ms: number) => `${(ms / 1_000).toFixed(1)} s`

const number = (value: number) => value.toLocaleString('en')
