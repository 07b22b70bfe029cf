/**
 * Whether a part hangs: it lives, and says nothing. It is asked at a steady pace; a silence is a row of questions without an
 * answer. Pure: from times, monotonic and in ms, to a verdict.
 *
 * What must not be taken for a hang: a machine under load, on which any answer comes late; and a pause of the supervisor itself
 * (Ctrl-Z, a laptop that slept, a loop that was busy), after which every answer seems to be missing.
 */

export interface Asked {
  at: number
  /** When the answer was there, or was waited for no longer. */
  until: number
  answered: boolean
}

export interface Silence {
  since: number
  until: number
  questions: number
}

/** So many in a row, however long each was waited for. */
const questionsMin = 6
const paceMsMax = 5_000

/** Between two questions; and so long each is waited for. */
export function paceMs(silentMsMax: number): number {
  return Math.min(paceMsMax, silentMsMax / questionsMin)
}

/** The silence as it is after this question: none after an answer, and none where this process was not awake to hear one. */
export function silenceAfter(before: Silence | undefined, asked: Asked, silentMsMax: number): Silence | undefined {
  const wasAwake = (from: number, to: number) => to - from < 2 * paceMs(silentMsMax)
  if (asked.answered || !wasAwake(asked.at, asked.until)) return undefined
  if (before === undefined || !wasAwake(before.until, asked.at))
    return { since: asked.at, until: asked.until, questions: 1 }
  return { since: before.since, until: asked.until, questions: before.questions + 1 }
}

export function hangs({ since, until, questions }: Silence, silentMsMax: number): boolean {
  return questions >= questionsMin && until - since >= silentMsMax
}
