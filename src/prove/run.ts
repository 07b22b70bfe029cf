import { type Round, type RunOptions, runSchedule, wholeWithinMs } from '../chaos/experiment.ts'
import { untilWhole } from '../chaos/parts.ts'
import { type Planned, type ScheduleOptions, scheduleOf } from '../chaos/schedule.ts'
import type { Operation } from '../history/operation.ts'
import { createRecorder, type Recorder } from '../history/recorder.ts'
import { systemClock } from '../kernel/clock.ts'
import { messageOf, RungError } from '../kernel/errors.ts'
import type { Second } from '../load/live.ts'
import { runLoad } from '../load/run.ts'
import type { Scenario } from '../load/scenario.ts'
import { type Summary, summaryOf } from '../load/summary.ts'
import type { Visitor } from '../load/visitor.ts'
import type { ProofUser } from './client.ts'
import { type Proof, rateDefault } from './proof.ts'
import { proofSessions } from './sessions.ts'

export interface ProveOptions extends Omit<RunOptions, 'began' | 'noneAfterMs'> {
  proof: Proof
  seed: number
  /** Of the fleet. */
  url: string
  /** How long sessions begin, in ms. */
  forMs: number
  /** Its times count from the first session. */
  planned: readonly Planned[]
  historyFile: string
  onSecond(second: Second): void
}

/** All times are in ms since the first session. */
export interface Proved {
  operations: readonly Operation[]
  /** No session began later. */
  endedAt: number
  rounds: readonly Round[]
  load: Summary
}

/** Before the first fault, for what is normal. */
const quietMs = 5_000
/** So much longer than the faults do sessions come, so that they see the end of the last one. */
const afterMs = 15_000

/**
 * Returns which fault strikes which part when.
 * @param forMs how long sessions begin
 * @throws COMMAND_INVALID if none fits, since a proof without faults would say nothing of them
 */
export function faultsOf({ forMs, faults, ...options }: Omit<ScheduleOptions, 'quietMs'>): Planned[] {
  const planned = scheduleOf({ ...options, faults, quietMs, forMs: forMs - afterMs })
  if (planned.length > 0 || faults.length === 0) return planned
  throw new RungError(
    'COMMAND_INVALID',
    'No fault would be injected: none of those chosen is for a part of this fleet, or the time is too short. Choose others, give --minutes 0.5 or more, or --faults none.',
  )
}

const timeoutMs = 10_000

/**
 * Opens sessions, injects the faults meanwhile, looks at everything in the end.
 * @throws PROOF_FAILED if users cannot be made, a function of the proof has thrown, or it was ended
 */
export async function prove(options: ProveOptions): Promise<Proved> {
  const recorder = createRecorder({ file: options.historyFile, now: systemClock.ticks })
  try {
    return await proveRecorded(options, recorder)
  } finally {
    await recorder.close()
  }
}

async function proveRecorded(options: ProveOptions, recorder: Recorder): Promise<Proved> {
  const { proof, url, seed, forMs, planned, tell, onSecond, dataDir } = options
  const failing = new AbortController()
  const over = AbortSignal.any([options.over, failing.signal])
  const sessions = proofSessions(proof, recorder, {
    over,
    onMistake: (cause) => failing.abort(failed(`A function of the proof has thrown: ${messageOf(cause)}`, cause)),
  })
  /** The first that fails ends all that goes on. */
  async function endingAll<T>(work: Promise<T>): Promise<T> {
    return work.catch((error) => {
      failing.abort(error)
      throw error
    })
  }
  function goOn(): void {
    if (options.over.aborted) throw failed('The proof was ended before its time.')
    if (failing.signal.aborted) throw failing.signal.reason
  }
  const common = { url, seed, timeoutMs, hosts: [new URL(url).hostname] }
  const alone = async <Data>(scenario: Pick<Scenario<Data>, 'journeys' | 'setup'>) => {
    await runLoad({
      ...common,
      lateMsMax: Number.POSITIVE_INFINITY,
      closed: { visitors: 1, journeys: 1 },
      ...scenario,
    })
    goOn()
  }
  let users: readonly ProofUser[] = []
  const setUp = async (visitor: Visitor) => {
    users = await sessions.setUp(visitor).catch((cause) => {
      throw failed(`The users of the proof could not be made: ${messageOf(cause)}`, cause)
    })
  }
  await alone({ journeys: [{ name: 'users', run: (visitor) => endingAll(setUp(visitor)) }] })

  const began = systemClock.ticks()
  const work = [
    endingAll(
      runLoad<readonly ProofUser[]>(
        {
          ...common,
          // Faults cost this machine time too, so sessions may begin late: what they see is checked, and not how fast it is.
          lateMsMax: Number.POSITIVE_INFINITY,
          setup: async () => users,
          phases: [{ seconds: forMs / 1_000, rate: proof.rate ?? rateDefault }],
          journeys: [sessions.session],
        },
        { onSecond, over },
      ),
    ),
    endingAll(runSchedule(planned, { dataDir, began, tell, over, noneAfterMs: forMs - afterMs })),
  ] as const
  await Promise.allSettled(work)
  goOn()
  const [load, rounds] = await Promise.all(work)
  if (planned.length > 0 && rounds.length === 0)
    throw failed('No planned fault came to its turn: this machine is too slow.')
  await untilWhole(dataDir, wholeWithinMs, over)
  await alone({ setup: async () => users, journeys: [sessions.last] })
  return {
    operations: recorder.operations().map((one) => {
      return { ...one, beganAt: one.beganAt - began, endedAt: one.endedAt - began }
    }),
    endedAt: forMs,
    rounds,
    load: summaryOf(load),
  }
}

function failed(message: string, cause?: unknown): RungError {
  return new RungError('PROOF_FAILED', message, { cause })
}
