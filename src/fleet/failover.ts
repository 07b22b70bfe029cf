import { memberFiles, type Primacy, readPrimacy, supersede, writePrimacy } from '../engines/postgres/members.ts'
import type { DatabaseMember, Standbys } from '../engines/process/engine.ts'
import { killAllIn } from '../engines/process/processes-in.ts'
import { everyAlone, systemClock } from '../kernel/clock.ts'
import { messageOf } from '../kernel/errors.ts'
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
  stop(): Promise<void>
}

const lookEveryMs = 500
/** A replica that does not answer within this time is not asked any longer: the old primary is quicker started again. */
const answerWithinMs = 1_000

/**
 * Makes commits wait for replicas, and puts a replica in the place of a primary that was lost:
 *
 *   primary lost ─► kill all of its processes ─► ask all replicas that may have what it acknowledged
 *      ├─ all answer ─► write down the one with the most log ─► promote it; the others follow, the old one is copied anew
 *      └─ otherwise ──► start the old one again: its folder has everything
 *
 * All servers run on this machine, and this process alone decides. Across machines that is the task of a consensus store, see
 * docs/guides/failover.md.
 */
export function openFailover({ dataDir, members, note }: FailoverOptions): Failover {
  /** One thing at a time: what was looked at must still hold when it is acted on. */
  let last: Promise<unknown> = Promise.resolve()
  let settled: Settled | undefined

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
    let recorded = primacy.synchronous
    let seen: Standbys | undefined
    for (;;) {
      seen ??= await primary.standbys()
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

  async function received({ synchronous }: Primacy): Promise<ReadonlyMap<string, Lsn | undefined>> {
    const known = members()
    const asked = synchronous.map(async (name) => [name, await known.get(name)?.received(answerWithinMs)] as const)
    return new Map(await Promise.all(asked))
  }

  async function decide(name: string, why: string): Promise<boolean> {
    const primacy = await readPrimacy(dataDir)
    if (name !== primacy.primary) return true
    const began = systemClock.ticks()
    const { data } = memberFiles(dataDir, name)
    await killAllIn(data)
    const answers = await received(primacy)
    const successor = successorOf(answers)
    settled = undefined
    if (successor === undefined) {
      await writePrimacy(dataDir, { primary: name, synchronous: [] })
      if (answers.size > 0)
        note(`${name} is started again (${why}): not all replicas answer that may have its last commits`)
      return true
    }
    // From here on the successor is the primary, whatever ends in between.
    await writePrimacy(dataDir, { primary: successor, synchronous: [] })
    await supersede(data)
    const known = members()
    const others = [...known.keys()].filter((other) => other !== successor)
    await known
      .get(successor)!
      .promote(others)
      .then(
        () => note(`${successor} is the primary now, after ${formatMs(systemClock.ticks() - began)}: ${name} ${why}`),
        (error) => note(`${successor} becomes the primary when it is started again: ${messageOf(error)}`),
      )
    return false
  }

  const stopLooking = everyAlone(lookEveryMs, () => alone(look).catch(() => {})) // it looks again
  return {
    mayReturn: (name, why) => alone(() => decide(name, why)),
    stop: stopLooking,
  }
}
