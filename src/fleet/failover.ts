import { memberFiles, type Primacy, pointLink, readPrimacy, writePrimacy } from '../engines/postgres/members.ts'
import type { DatabaseMember, Standbys } from '../engines/process/engine.ts'
import { commandOf, isRunning } from '../engines/process/is-running.ts'
import { killAllIn } from '../engines/process/processes-in.ts'
import { everyAlone, systemClock } from '../kernel/clock.ts'
import { messageOf, RungError } from '../kernel/errors.ts'
import type { Lsn } from '../kernel/position.ts'
import { formatMs } from '../kernel/units.ts'
import { nextStep, type Settled, successorOf } from './promotion.ts'

export interface FailoverOptions {
  dataDir: string
  /** The servers of the database that have been started, by name. */
  members(): ReadonlyMap<string, DatabaseMember>
  note(text: string): void
}

export interface Failover {
  /** Asked before a lost server is started again; `false` if another one has taken its place. */
  mayReturn(name: string, why: string): Promise<boolean>
  /** @throws COMMAND_INVALID if one of these servers is the primary, and so cannot be removed */
  checkRemoval(names: readonly string[]): Promise<void>
  /**
   * Says which servers are being removed, instead of those said before: none of them takes the place of a lost primary, which is started
   * again instead.
   * @throws what `checkRemoval` throws; nothing has changed then
   */
  setLeaving(names: readonly string[]): Promise<void>
  stop(): Promise<void>
}

const lookEveryMs = 500
const toldAfterMs = 10_000
/** A replica that does not answer within this time is not asked any longer: the old primary is quicker started again. */
const answerWithinMs = 1_000

/**
 * Makes commits wait for replicas, and puts a replica in the place of a primary that was lost:
 *
 *   primary lost ─► kill all of its processes ─► ask all replicas that may have what it acknowledged
 *      ├─ all answer ─► write down the one with the most log ─► promote it; the others follow, the old one is copied anew
 *      └─ otherwise, or if that one is being removed ──► start the old one again: its folder has everything
 *
 * All servers run on this machine, and this process alone decides. Across machines that is the task of a consensus store, see
 * docs/guides/failover.md.
 */
export function openFailover({ dataDir, members, note }: FailoverOptions): Failover {
  /** One thing at a time: what was looked at must still hold when it is acted on. */
  let last: Promise<unknown> = Promise.resolve()
  let settled: Settled | undefined
  let leaving: readonly string[] = []

  function alone<T>(work: () => Promise<T>): Promise<T> {
    const next = last.then(work, work)
    last = next.catch(() => {})
    return next
  }

  /** Takes the next steps towards the replicas that commits should wait for. */
  async function look(): Promise<void> {
    const primacy = await readPrimacy(dataDir)
    const primary = members().get(primacy.primary)
    if (!primary?.leads()) {
      settled = undefined
      return
    }
    await pointLink(dataDir, primacy.primary)
    let recorded = primacy.synchronous
    let seen: Standbys | undefined
    for (;;) {
      seen ??= await standbysOf(primary, recorded)
      const step = nextStep(recorded, seen, settled)
      settled = step?.settled
      if (step?.record) {
        await writePrimacy(dataDir, { ...primacy, synchronous: step.record })
        recorded = step.record
      } else if (step?.apply) {
        await primary.waitFor(step.apply)
        seen = undefined
      } else return
    }
  }

  /** A promotion that failed half-way is made again, as long as no commit can have waited for a replica. */
  async function standbysOf(primary: DatabaseMember, recorded: readonly string[]): Promise<Standbys> {
    try {
      return await primary.standbys()
    } catch (error) {
      if (recorded.length === 0) await primary.promote([]).catch(() => {})
      throw error
    }
  }

  async function received({ synchronous }: Primacy): Promise<ReadonlyMap<string, Lsn | undefined>> {
    const known = members()
    const asked = synchronous.map(async (name) => [name, await known.get(name)?.received(answerWithinMs)] as const)
    return new Map(await Promise.all(asked))
  }

  /** It may be called again after any of its steps has failed: the record says what was decided. */
  async function decide(name: string, why: string): Promise<boolean> {
    const began = systemClock.ticks()
    const primacy = await readPrimacy(dataDir)
    const isReplica = name !== primacy.primary && !members().get(name)?.isPrimary()
    if (isReplica) return true
    await fence(name)
    settled = undefined
    if (name === primacy.primary) {
      const answers = await received(primacy)
      const successor = successorOf(answers)
      const isLeaving = successor !== undefined && leaving.includes(successor)
      if (successor === undefined || isLeaving) {
        await writePrimacy(dataDir, { ...primacy, synchronous: [] })
        const reason = isLeaving
          ? `${successor} is being removed`
          : 'not all replicas answer that may have its last commits'
        if (answers.size > 0) note(`${name} is started again (${why}): ${reason}`)
        return true
      }
      const superseded = [...new Set([...primacy.superseded, name])].filter((one) => one !== successor)
      await writePrimacy(dataDir, { primary: successor, synchronous: [], superseded })
    }
    // From here on the successor is the primary, whatever ends in between: the lost one must not come back as one.
    const { primary: successor } = await readPrimacy(dataDir)
    await pointLink(dataDir, successor).catch((error) =>
      note(`replicas do not follow ${successor} yet: ${messageOf(error)}`),
    )
    const others = [...members().keys()].filter((other) => other !== successor)
    await members()
      .get(successor)!
      .promote(others)
      .then(
        () => note(`${successor} is the primary now, after ${formatMs(systemClock.ticks() - began)}: ${name} ${why}`),
        (error) => note(`${successor} becomes the primary when it is started again: ${messageOf(error)}`),
      )
    return false
  }

  async function checkRemoval(names: readonly string[]): Promise<void> {
    const { primary } = await readPrimacy(dataDir)
    if (names.includes(primary)) {
      throw new RungError(
        'COMMAND_INVALID',
        `${primary} is the primary since a failover, and cannot be removed. Start the fleet anew, which gives it the first place.`,
      )
    }
  }

  /** Ends all processes of a server. Where its folder is gone, only its first process is known, without which the others end. */
  async function fence(name: string): Promise<void> {
    await killAllIn(memberFiles(dataDir, name).data)
    const pid = members().get(name)?.pid()
    if (pid !== undefined && isRunning(pid) && commandOf(pid).includes('postgres')) process.kill(pid, 'SIGKILL')
  }

  let failingSince: number | undefined
  let isTold = false
  /** While a server starts or has just been lost, a look fails now and then; the next one mends that. */
  async function lookAndTell(): Promise<void> {
    try {
      await alone(look)
      if (isTold) note('commits wait for replicas again')
      failingSince = undefined
      isTold = false
    } catch (error) {
      failingSince ??= systemClock.ticks()
      if (isTold || systemClock.ticks() - failingSince < toldAfterMs) return
      isTold = true
      note(`it cannot be set for which replicas commits wait: ${messageOf(error)}`)
    }
  }

  const stopLooking = everyAlone(lookEveryMs, lookAndTell)
  return {
    mayReturn: (name, why) => alone(() => decide(name, why)),
    checkRemoval: (names) => alone(() => checkRemoval(names)),
    setLeaving: (names) =>
      alone(async () => {
        await checkRemoval(names)
        leaving = names
      }),
    stop: stopLooking,
  }
}
