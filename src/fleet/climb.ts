import { sleep, systemClock } from '../kernel/clock.ts'
import { messageOf, RungError, sentence } from '../kernel/errors.ts'
import { formatMs } from '../kernel/units.ts'
import { rungAfter, rungNames } from '../topology/catalog.ts'
import { type Difference, differenceOf } from '../topology/diff.ts'
import { connectionsNeeded, databaseConnections, type RungName, type Topology } from '../topology/topology.ts'
import { type Answers, answersIn, answersSince, noAnswers, notWorse, p95, sumOf, worseIn } from './canary.ts'
import { changeOf, type Planned } from './change.ts'
import type { Climbed } from './climbed.ts'
import { climbedTo } from './climbed.ts'
import type { ClimbRequest } from './control.ts'
import { metricsOf } from './figures.ts'
import type { Part } from './placement.ts'
import type { SupervisedPart } from './supervisor.ts'

type Note = (text: string) => void

/** Operations on a running fleet (`live.ts`). */
export interface ClimbOperations {
  now(): Planned
  parts(): readonly SupervisedPart[]
  readonly over: AbortSignal
  /** @throws COMMAND_INVALID if one of these parts is the primary */
  checkRemoval(removed: readonly Part[]): Promise<void>
  /** Waits, but not for ever, until a database that was lost answers again. */
  untilDatabaseAnswers(): Promise<unknown>
  turnInto(next: Planned, note: Note): Promise<void>
  turnFrontsInto(next: Planned, note: Note): Promise<void>
}

/** What a climb needs besides the fleet. */
export interface ClimbEffects {
  /**
   * Plans the fleet at a rung, with its usual numbers of parts or the present ones, and with what stands in front of the app there or
   * in another topology.
   */
  plan(rung: RungName, held: Planned, how?: { present?: boolean; fronts?: Topology }): Promise<Planned>
  /** The rung of the settings with which the fleet was started. */
  readonly settings: RungName
  /** Whether the autoscaler finds the number of web processes. */
  isScaled(): boolean
  climbed(): Promise<Climbed | undefined>
  remember(climbed: Climbed | undefined): Promise<void>
  /** Engines that the plan needs and that cannot be used here, with the reason. */
  missing(rung: RungName): Promise<readonly { name: string; problem: string }[]>
  /** Tries out what runs now. @returns what was seen, in sentences; throws if something is wrong */
  probe(now: Planned): Promise<string[]>
  /** Records that a climb begins. It never rejects. @returns a function that records how it ended */
  begin(from: RungName, to: RungName, note: Note): Promise<(end: ClimbEnd) => Promise<void>>
}

/** How a climb ended, in the words of deploys. */
export interface ClimbEnd {
  outcome: 'done' | 'rolled back' | 'failed'
  reason: string | null
}

/** What a climb will do. */
export interface ClimbPlan extends Difference {
  from: RungName
  to: RungName
  added: string[]
  removed: string[]
  restarted: string[]
  /** Processes of the app and engines, now and then. */
  parts: { now: number; next: number }
  /** What all may need at most while old and new parts run, and what Postgres was started with; `null` for one that runs elsewhere. */
  connections: { needed: number; room: number | null }
  missing: readonly { name: string; problem: string }[]
  /** The replicas of the new rung, of which each is a copy of the database. */
  replicas: { now: number; next: number }
  processes: { now: number; next: number }
}

export interface ClimbResult extends ClimbPlan {
  outcome: 'planned' | 'unchanged' | 'done' | 'taken back'
  /** Why it was taken back. */
  reason: string | null
  /** What was tried out at the new rung. */
  seen: string[]
  traffic: { before: Traffic; after: Traffic } | null
  tookMs: number
}

/** `p95Ms` is the upper edge of a bucket of the histogram. */
interface Traffic {
  requests: number
  errors: number
  p95Ms: number | null
}

const watchMsDefault = 5_000
/** New processes compile their code and have empty caches. */
const warmMs = 3_000

/** A plan, and what differs from the one before: the parts behind the entry's balancing, or the balancing itself. */
interface Step {
  readonly planned: Planned
  readonly by: 'parts' | 'fronts'
}

/**
 * Brings a running fleet to another rung, in steps that the fleet can also make alone, and tries out what then runs; no request fails.
 *
 *   up    engines behind ─► processes, one after the other ─► balancer ─► the entry sends requests to it ─► probe, traffic
 *   down  the entry sends requests past the balancer ─► balancer ends ─► processes ─► engines behind
 *
 * A step that fails, a part that is not found well, or traffic that is worse takes all steps back, the last one first. The caller runs
 * the checks first (`preflight.ts`).
 * @throws COMMAND_INVALID, CLIMB_REFUSED; nothing was changed then
 */
export async function climb(
  fleet: ClimbOperations,
  effects: ClimbEffects,
  request: ClimbRequest,
  note: Note,
): Promise<ClimbResult> {
  const began = systemClock.ticks()
  const took = () => Math.round(systemClock.ticks() - began)
  const before = fleet.now()
  const from = before.topology.rung
  if (request.from !== undefined && request.from !== from) {
    throw new RungError(
      'CLIMB_REFUSED',
      `This climb was checked from rung ${request.from}, and the fleet runs at ${from} by now. Nothing was changed. Look again: rung climb --dry-run`,
    )
  }
  const known = await effects.climbed()
  const to = targetOf(request, from, known)
  const nothing = { reason: null, seen: [], traffic: null }
  if (to === from) return { ...emptyPlan(from), ...nothing, outcome: 'unchanged', tookMs: took() }
  const steps = await stepsTo(to, before, effects)
  const last = steps.at(-1)!.planned
  await fleet.checkRemoval(changeOf(before.plan, last.plan).removed)
  if (last.topology.balancer.engine === 'none' && effects.isScaled()) {
    throw new RungError(
      'CLIMB_REFUSED',
      `The autoscaler finds the number of web processes, and rung ${to} has no balancer. End it first: rung scale web=${before.topology.processes.web}`,
    )
  }
  const plan: ClimbPlan = { ...planOf(before, steps), missing: await effects.missing(to) }
  if (request.dryRun) return { ...plan, ...nothing, outcome: 'planned', tookMs: took() }

  const watchMs = request.watchMs ?? watchMsDefault
  const old = await trafficFor(fleet, watchMs)
  const end = await effects.begin(from, to, note)
  let done = 0
  try {
    for (const { planned, by } of steps) {
      done += 1
      await (by === 'parts' ? fleet.turnInto(planned, note) : fleet.turnFrontsInto(planned, note))
    }
    const seen = await effects.probe(fleet.now())
    for (const text of seen) note(text)
    if (watchMs > 0) {
      note(`compares the traffic with that before, for ${formatMs(watchMs)}`)
      await sleep(Math.min(warmMs, watchMs), fleet.over)
    }
    const names = { fresh: `rung ${to}`, old: `rung ${from}` }
    let fresh = await trafficFor(fleet, watchMs)
    const worse = worseIn(old, fresh, names)
    if (worse !== undefined) {
      note(`${worse} Looks once more.`) // many processes have started just now
      fresh = await trafficFor(fleet, watchMs)
      const still = worseIn(old, fresh, names)
      if (still !== undefined) throw new Error(still)
    }
    if (watchMs > 0) note(notWorse(fresh))
    await effects.remember(climbedTo(known, from, to, effects.settings))
    await end({ outcome: 'done', reason: null })
    const traffic = watchMs === 0 ? null : { before: factsOf(old), after: factsOf(fresh) }
    return { ...plan, outcome: 'done', reason: null, seen, traffic, tookMs: took() }
  } catch (error) {
    if (fleet.over.aborted) throw error
    const reason = sentence(messageOf(error))
    note(`${reason} Goes back to rung ${from}.`)
    await goBack(fleet, [{ planned: before, by: 'parts' }, ...steps.slice(0, done)], note).catch(async (cause) => {
      if (fleet.over.aborted) throw cause
      await end({ outcome: 'failed', reason: `${reason} The way back failed too: ${messageOf(cause)}` })
      throw new RungError(
        'ENGINE_START_FAILED',
        `${reason} The way back to rung ${from} failed too, and the fleet is between the rungs (rung ps). Try again: rung climb ${from}. ${messageOf(cause)}`,
        { cause },
      )
    })
    await end({ outcome: 'rolled back', reason })
    return { ...plan, ...nothing, outcome: 'taken back', reason, tookMs: took() }
  }
}

async function goBack(fleet: ClimbOperations, made: readonly Step[], note: Note): Promise<void> {
  for (let at = made.length - 1; at > 0; at -= 1) {
    const { planned } = made[at - 1]!
    if (fleet.now() === planned) continue // the step took itself back
    await fleet.untilDatabaseAnswers() // its loss may be why the climb goes back, and replicas are made from it
    await (made[at]!.by === 'parts' ? fleet.turnInto(planned, note) : fleet.turnFrontsInto(planned, note))
  }
}

/** @throws COMMAND_INVALID */
function targetOf({ rung, undo }: ClimbRequest, from: RungName, known: Climbed | undefined): RungName {
  if (undo) {
    const last = known?.rung === from ? known.before.at(-1) : undefined
    if (last !== undefined) return last
    throw invalid(`Nothing is to be undone: this fleet was started at rung ${from}. To go down: rung climb <rung>`)
  }
  const next = rung ?? rungAfter(from)
  if (next !== undefined) return next
  throw invalid(`Rung ${from} is the highest one. To go down: rung climb ${rungNames[rungNames.indexOf(from) - 1]}`)
}

/** One rung after the other. @throws CLIMB_REFUSED */
async function stepsTo(to: RungName, before: Planned, effects: ClimbEffects): Promise<Step[]> {
  const [first, last] = [rungNames.indexOf(before.topology.rung), rungNames.indexOf(to)]
  const way = first < last ? rungNames.slice(first + 1, last + 1) : rungNames.slice(last, first).toReversed()
  const steps: Step[] = []
  for (const rung of way) steps.push(...(await stepsBetween(steps.at(-1)?.planned ?? before, rung, effects)))
  return steps
}

/** @throws CLIMB_REFUSED */
async function stepsBetween(before: Planned, to: RungName, { plan }: ClimbEffects): Promise<Step[]> {
  const end = await plan(to, before)
  const from = before.topology
  const entry = ({ plan: { parts } }: Planned) => parts[0]!.name
  if (entry(before) !== entry(end)) {
    if (before.plan.sharesEntry && end.plan.sharesEntry) return [{ planned: end, by: 'parts' }]
    throw new RungError(
      'CLIMB_REFUSED',
      `Between ${from.rung} and ${to} another part takes the public port (${entry(end)} instead of ${entry(before)}), which needs one stop: rung stop && rung up ${to}`,
    )
  }
  const isSame = from.edge.engine === end.topology.edge.engine && from.balancer.engine === end.topology.balancer.engine
  if (isSame) return [{ planned: end, by: 'parts' }]
  if (from.balancer.engine === 'none') {
    const middle = await plan(to, before, { fronts: from })
    return [
      { planned: middle, by: 'parts' },
      { planned: await plan(to, middle), by: 'fronts' },
    ]
  }
  const middle = await plan(from.rung, before, { present: true, fronts: end.topology })
  return [
    { planned: middle, by: 'fronts' },
    { planned: await plan(to, middle), by: 'parts' },
  ]
}

function planOf(before: Planned, steps: readonly Step[]): Omit<ClimbPlan, 'missing'> {
  const end = steps.at(-1)!.planned
  const [now, then] = [before.topology, end.topology]
  const { added, removed, rolled } = changeOf(before.plan, end.plan)
  const names = (parts: readonly { name: string }[]) => parts.map(({ name }) => name)
  const processes = ({ processes: { both, web, worker } }: Topology) => both + web + worker
  return {
    ...differenceOf(now, then),
    from: now.rung,
    to: then.rung,
    added: names(added),
    removed: names(removed),
    restarted: names(rolled),
    parts: { now: before.plan.parts.length, next: end.plan.parts.length },
    connections: {
      needed: connectionsBetween(now, then),
      room: now.data.engine === 'embedded' ? databaseConnections(now) : null,
    },
    replicas: { now: now.data.replicas, next: then.data.replicas },
    processes: { now: processes(now), next: processes(then) },
  }
}

/** Old processes have connections of their own until the new ones answer; tools are counted once. */
function connectionsBetween(now: Topology, then: Topology): number {
  const tools = connectionsNeeded({ ...now, processes: { both: 0, web: 0, worker: 0 }, scaling: { schedule: [] } })
  if (now.data.pooler === then.data.pooler) return Math.max(connectionsNeeded(now), connectionsNeeded(then))
  return connectionsNeeded(now) + connectionsNeeded(then) - tools
}

function emptyPlan(rung: RungName): ClimbPlan {
  const none = { now: 0, next: 0 }
  return {
    ...{ from: rung, to: rung, added: [], removed: [], restarted: [], moves: [], app: [], missing: [] },
    ...{ parts: none, connections: { needed: 0, room: null }, replicas: none, processes: none },
  }
}

/** What all processes answer during this time. */
async function trafficFor({ parts, over }: ClimbOperations, watchMs: number): Promise<Answers> {
  if (watchMs === 0) return noAnswers
  const answering = parts().filter(({ part }) => part.kind === 'app' && part.role !== 'worker')
  const look = () => Promise.all(answering.map(({ part }) => answersAt(part.address)))
  const before = await look()
  await sleep(watchMs, over)
  const now = await look()
  return sumOf(now.map((one, index) => answersSince(before[index]!, one)))
}

async function answersAt(address: string): Promise<Answers> {
  const text = await metricsOf(address)
  return text === undefined ? noAnswers : answersIn(text)
}

function factsOf(answers: Answers): Traffic {
  const seconds = p95(answers)
  return {
    requests: answers.requests,
    errors: answers.errors,
    p95Ms: seconds === undefined ? null : Math.round(seconds * 1000),
  }
}

function invalid(message: string): RungError {
  return new RungError('COMMAND_INVALID', message)
}
