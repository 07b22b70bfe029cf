import { type Round, type RunOptions, runSchedule, wholeWithinMs } from '../chaos/experiment.ts'
import { untilWhole } from '../chaos/parts.ts'
import type { Planned } from '../chaos/schedule.ts'
import type { Operation } from '../history/operation.ts'
import { createRecorder } from '../history/recorder.ts'
import { sleep, systemClock } from '../kernel/clock.ts'
import { messageOf, RungError } from '../kernel/errors.ts'
import type { Second } from '../load/live.ts'
import { runLoad } from '../load/run.ts'
import type { Scenario } from '../load/scenario.ts'
import { type Summary, summaryOf } from '../load/summary.ts'
import type { ProofUser } from './client.ts'
import type { Proof } from './proof.ts'
import { proofSessions } from './sessions.ts'

export interface ProveOptions extends RunOptions {
  proof: Proof
  seed: number
  /** How long sessions begin, in ms. */
  forMs: number
  /** The schedule. It begins a moment after the sessions. */
  planned: readonly Planned[]
  historyFile: string
  onSecond(second: Second): void
}

export interface Proved {
  operations: readonly Operation[]
  /** Of the first session: the time that all times of the load and the faults count from. */
  beganAt: number
  /** No session began later. */
  endedAt: number
  /** Times of its faults count from `beganAt` too. */
  rounds: readonly Round[]
  load: Summary
}

/** Before the first fault, for what is normal. */
const quietMs = 5_000
/** So much longer than the faults do sessions come, so that they see the end of the last one. */
const afterMs = 15_000

/** Returns how long rounds of faults may begin, of the time in which sessions come. */
export function faultsForMs(forMs: number): number {
  return forMs - quietMs - afterMs
}

const timeoutMs = 10_000

/**
 * Opens sessions, injects the faults meanwhile, looks at everything in the end.
 * @throws PROOF_FAILED if users cannot be made, or a function of the proof has thrown
 */
export async function prove(options: ProveOptions): Promise<Proved> {
  const { proof, url, seed, forMs, planned, historyFile, over, tell, onSecond, dataDir } = options
  const recorder = createRecorder({ file: historyFile, now: systemClock.ticks })
  const sessions = proofSessions(proof, recorder)
  const common = { url, seed, timeoutMs, hosts: [new URL(url).hostname] }
  let users: readonly ProofUser[] = []
  const first: Scenario<void> = {
    ...common,
    closed: { visitors: 1, journeys: 1 },
    journeys: [
      {
        name: 'users',
        async run(visitor) {
          users = await sessions.setUp(visitor)
        },
      },
    ],
  }
  const made = await runLoad(first)
  const failed = Object.keys(made.all.failures).find((kind) => kind.startsWith('error'))
  if (failed !== undefined || users.length === 0)
    throw new RungError('PROOF_FAILED', `The users of the proof could not be made: ${failed ?? 'there are none'}.`)

  const beganAt = systemClock.ticks()
  const faults = (async () => {
    await sleep(quietMs, over).catch(() => {})
    const rounds = await runSchedule(planned, { dataDir, url, tell, over, noneAfterMs: faultsForMs(forMs) })
    return rounds.map((round) => later(round, quietMs))
  })()
  const [load, rounds] = await Promise.allSettled([
    runLoad<readonly ProofUser[]>(
      {
        ...common,
        // Faults cost this machine time too, so sessions may begin late: what they see is checked, and not how fast it is.
        lateMsMax: Number.POSITIVE_INFINITY,
        setup: async () => users,
        phases: [{ seconds: forMs / 1_000, rate: proof.rate ?? 3 }],
        journeys: [sessions.session],
      },
      { onSecond, over },
    ),
    faults,
  ])
  if (rounds.status === 'rejected') throw rounds.reason
  if (load.status === 'rejected') throw load.reason
  if (over.aborted) throw new RungError('PROOF_FAILED', 'The proof was ended before its time.')
  await untilWhole(dataDir, wholeWithinMs, over)
  await runLoad<readonly ProofUser[]>({
    ...common,
    lateMsMax: Number.POSITIVE_INFINITY,
    setup: async () => users,
    closed: { visitors: 1, journeys: 1 },
    journeys: [sessions.last],
  })
  const [mistake] = sessions.mistakes
  if (mistake !== undefined)
    throw new RungError('PROOF_FAILED', `A function of the proof has thrown: ${messageOf(mistake)}`, { cause: mistake })
  await recorder.close()
  return {
    operations: recorder.operations(),
    beganAt,
    endedAt: beganAt + forMs,
    rounds: rounds.value,
    load: summaryOf(load.value),
  }
}

function later(round: Round, ms: number): Round {
  const faults = round.faults.map((one) => ({
    ...one,
    ...(one.fromMs !== undefined && { fromMs: one.fromMs + ms }),
  }))
  return { ...round, faults, beganAtMs: round.beganAtMs + ms }
}
