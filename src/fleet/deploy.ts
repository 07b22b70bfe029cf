import { sleep, systemClock } from '../kernel/clock.ts'
import { messageOf, sentence } from '../kernel/errors.ts'
import { formatMs } from '../kernel/units.ts'
import { type Answers, answersIn, answersSince, noAnswers, notWorse, sumOf, worseIn } from './canary.ts'
import type { Planned } from './change.ts'
import type { Counts, DeployRequest } from './control.ts'
import { sparesFor } from './counts.ts'
import type { Part } from './placement.ts'
import { inSource, type Release } from './releases.ts'
import type { PartState } from './supervisor.ts'

type Note = (text: string) => void

/** What a deploy does to a running fleet (`live.ts`). */
export interface FleetOperations {
  /** @throws COMMAND_INVALID if this fleet cannot be changed without a failed request */
  check(): void
  now(): Planned
  counts(): Counts
  replan(counts: Counts): Promise<Planned>
  use(planned: Planned): Promise<void>
  add(part: Part): Promise<void>
  restart(name: string): Promise<void>
  admit(part: Part, note: Note): Promise<void>
  drain(part: Part, note: Note): Promise<void>
  takeOut(part: Part, note: Note): Promise<void>
  state(name: string): PartState | undefined
  readonly over: AbortSignal
}

/** Which releases the processes run, as the next plan reads it. */
export interface ReleaseBook {
  present: Release
  readonly of: Map<string, Release>
}

/** What a deploy needs besides the fleet. */
export interface DeployEffects {
  readonly book: ReleaseBook
  /** Copies the code. Without a place it is that of the start. */
  keep(place: string | undefined, build: string | undefined): Promise<Release>
  /** Applies the migrations of a release while the present one runs. @returns their names */
  migrate(next: Release, present: Release, note: Note): Promise<string[]>
  /** Records that a deploy has begun. @returns a function that records its end */
  begin(next: Release, present: Release): Promise<(end: DeployEnd) => Promise<void>>
  /** Removes releases that are no longer needed. */
  forget(used: readonly Release[]): Promise<void>
}

/** As it is recorded. */
interface DeployEnd {
  outcome: 'done' | 'rolled back' | 'refused' | 'failed'
  reason: string | null
  migrations: string[]
}

export interface DeployResult {
  build: string
  previous: string
  outcome: 'done' | 'unchanged' | 'rolled back'
  reason: string | null
  migrations: string[]
  tookMs: number
}

/** How long the first process of a new build is compared with the old ones. */
export const watchMsDefault = 10_000
/** Its first requests are slow: code is compiled, caches are empty, and the balancer sends few. They do not count. */
const warmMs = 3_000
const lookEveryMs = 250
const metricsWithinMs = 2_000
/** A process that ends once may have been killed. One that ends again is not well. */
const endsMax = 1

/**
 * Replaces the code of all processes, one after the other; no request fails.
 *
 *   copy the code ─► migrations ─► one more web process, new ─► compare it with the old ones ─► each web process ─► workers ─► one less
 *                        │                    └──────────────── worse, or does not start ─────────────┴──────► all back
 *                        └─ refused: no process was touched
 *
 * The additional process goes on answering while the others are restarted, so that there are never fewer than before.
 * @throws COMMAND_INVALID, and what refuses the migrations
 */
export async function deploy(
  fleet: FleetOperations,
  effects: DeployEffects,
  request: DeployRequest,
  note: Note,
): Promise<DeployResult> {
  const began = systemClock.ticks()
  const { book } = effects
  const { present } = book
  fleet.check()
  const next = await effects.keep(request.place, request.build)
  if (next.build === present.build) {
    const tookMs = Math.round(systemClock.ticks() - began)
    return { build: next.build, previous: next.build, outcome: 'unchanged', reason: null, migrations: [], tookMs }
  }
  note(`deploys build ${next.build} from ${next.source}`)
  const end = await effects.begin(next, present)
  const migrations = await effects.migrate(next, present, note).catch(async (error) => {
    await end({ outcome: 'refused', reason: messageOf(error), migrations: [] })
    throw error
  })
  const rolled = roll(fleet, book, next, request.watchMs ?? watchMsDefault, note).catch(async (error) => {
    if (!fleet.over.aborted) await end({ outcome: 'failed', reason: messageOf(error), migrations })
    throw error
  })
  const reason = (await rolled) ?? null
  const outcome = reason === null ? 'done' : 'rolled back'
  await end({ outcome, reason, migrations })
  await effects.forget([book.present, present])
  const tookMs = Math.round(systemClock.ticks() - began)
  return { build: next.build, previous: present.build, outcome, reason, migrations, tookMs }
}

/** @returns why the deploy was taken back */
async function roll(
  fleet: FleetOperations,
  book: ReleaseBook,
  next: Release,
  watchMs: number,
  note: Note,
): Promise<string | undefined> {
  const counts = fleet.counts()
  const spares = Object.fromEntries(sparesFor({ ...counts, web: 0 }, fleet.now().plan.parts))
  const more = { ...counts, ...spares, web: counts.web + 1 }
  const apps = (role: string) => fleet.now().plan.parts.filter((part) => part.kind === 'app' && part.role === role)
  const [webs, workers] = [apps('web'), apps('worker')]
  const extra = `web-${more.web}`
  /** Besides the one that is compared, one beside each process that answers alone for its group. */
  const extras = [extra, ...Object.keys(spares).map((name) => `${name}-2`)]
  const named = (name: string) => fleet.now().plan.parts.find((part) => part.name === name)!
  const plan = async (wanted: Counts) => fleet.use(await fleet.replan(wanted))
  const watch = watching(fleet, book, extra)

  /** Restarts a process with the code that the book says. */
  async function restart(name: string): Promise<void> {
    await plan(more)
    await fleet.drain(named(name), note)
    await fleet.restart(name)
    watch.started(name)
    await fleet.admit(named(name), note)
  }

  async function backToOld(): Promise<void> {
    const changed = [...webs, ...workers].filter(({ name }) => book.of.has(name))
    // The additional process gets the old code first: it answers while the others get theirs.
    if (changed.length > 0)
      for (const { name } of [...extras.filter((one) => fleet.state(one)).map((name) => ({ name })), ...changed]) {
        book.of.delete(name)
        await restart(name)
      }
    await takeExtrasOut()
  }

  async function takeExtrasOut(): Promise<void> {
    const parts = extras.map(named)
    book.of.clear()
    await plan(counts)
    for (const part of parts) await fleet.takeOut(part, note)
  }

  async function addExtra(name: string): Promise<void> {
    book.of.set(name, next)
    await plan(more)
    note(`${name} starts with build ${next.build}`)
    await fleet.add(named(name))
    await fleet.admit(named(name), note)
  }

  try {
    await addExtra(extra)
    await watch.forAWhile(watchMs, note)
    for (const name of extras.slice(1)) await addExtra(name)
    for (const { name } of [...webs, ...workers]) {
      book.of.set(name, next)
      await restart(name)
      await watch.check()
    }
    book.present = next
    await takeExtrasOut()
    return undefined
  } catch (error) {
    if (fleet.over.aborted || book.present === next) throw error
    const reason = inSource(sentence(messageOf(error)), next)
    note(`${reason} Goes back to build ${book.present.build}.`)
    await backToOld()
    return reason
  }
}

/** Compares the processes with the new code with those that still have the old one. */
function watching(fleet: FleetOperations, book: ReleaseBook, extra: string) {
  /** The processes of groups answer other requests, and are not comparable. */
  const answering = () =>
    fleet.now().plan.parts.filter((part) => part.kind === 'app' && part.role === 'web' && part.group === undefined)
  /** Where the count of each process begins: `answers` is missing while its code is being compiled. */
  const counts = new Map<string, { ends: number; warmAt: number; answers?: Answers }>()
  /** How often each had ended by itself when it was started. */
  const ends = new Map<string, number>()
  let warm = warmMs
  let old = noAnswers

  const endsOf = (name: string) => {
    const state = fleet.state(name)
    return (state?.restarts ?? 0) + (state?.state === 'restarting' ? 1 : 0)
  }

  /** Counts from now on. */
  async function begin(): Promise<void> {
    for (const { name, address } of answering())
      counts.set(name, { ends: endsOf(name), warmAt: 0, answers: await answersOf(address) })
  }

  /** What a process has answered since its count began. One that was started again has to warm up again, or a kill would look like a slow build. */
  async function since({ name, address }: Part): Promise<Answers> {
    const count = counts.get(name)
    if (!count) return noAnswers
    if (fleet.state(name)?.state !== 'running') return noAnswers
    const now = systemClock.ticks()
    if (count.ends !== endsOf(name)) counts.set(name, { ends: endsOf(name), warmAt: now + warm })
    else if (count.answers) return answersSince(count.answers, await answersOf(address))
    else if (now >= count.warmAt) counts.set(name, { ...count, answers: await answersOf(address) })
    return noAnswers
  }

  async function compare(): Promise<Answers> {
    const before = answering().filter(({ name }) => counts.has(name) && !book.of.has(name))
    if (before.length > 0) old = sumOf(await Promise.all(before.map(since)))
    const fresh = answering().find(({ name }) => name === extra)
    return fresh ? since(fresh) : noAnswers
  }

  async function check(): Promise<Answers> {
    for (const name of book.of.keys()) {
      if (endsOf(name) - (ends.get(name) ?? 0) > endsMax)
        throw new Worse(`${name} ended again and again with the new build.`)
    }
    const fresh = await compare()
    const worse = worseIn(old, fresh)
    if (worse !== undefined) throw new Worse(worse)
    return fresh
  }

  return {
    check,
    started: (name: string) => void ends.set(name, endsOf(name)),
    async forAWhile(watchMs: number, note: Note): Promise<void> {
      ends.set(extra, endsOf(extra))
      if (watchMs === 0) return note('goes on by readiness alone, as it was told')
      note(`compares ${extra} with the others for ${formatMs(watchMs)}`)
      warm = Math.min(warmMs, watchMs / 4)
      const until = systemClock.ticks() + watchMs
      await sleep(warm, fleet.over)
      await begin()
      let fresh = noAnswers
      do {
        await sleep(lookEveryMs, fleet.over)
        fresh = await check()
      } while (systemClock.ticks() < until)
      note(notWorse(fresh))
    },
  }
}

/** Its message is the reason of a deploy that is taken back. */
class Worse extends Error {}

/** A process that does not answer now has ended, or is busy: other signs decide. */
async function answersOf(address: string): Promise<Answers> {
  return fetch(`http://${address}/metrics`, { signal: AbortSignal.timeout(metricsWithinMs) }).then(
    async (answer) => answersIn(await answer.text()),
    () => noAnswers,
  )
}
