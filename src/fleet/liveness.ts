/**
 * Decides whether a part hangs. It is asked at a steady pace; a silence is a series of questions without an answer. Pure: times are
 * monotonic, in ms.
 *
 * Two things must not be mistaken for a hang: a machine under load, which answers late; and a pause of the supervisor itself
 * (Ctrl-Z, a laptop that slept, a busy event loop), after which every answer seems to be missing.
 */

export interface Question {
  at: number
  /** When the answer came, or the wait for it ended. */
  until: number
  answered: boolean
}

export interface Silence {
  since: number
  until: number
  questions: number
}

/** A silence is a hang only after this many questions. */
const questionsMin = 6
const paceMsMax = 5_000

/** Time between two questions, and how long each waits for its answer; in ms. */
export function paceMs(unresponsiveAfterMs: number): number {
  return Math.min(paceMsMax, unresponsiveAfterMs / questionsMin)
}

/** Returns the silence after a question: none after an answer, and none if this process was not awake to receive one. */
export function silenceAfter(
  before: Silence | undefined,
  question: Question,
  unresponsiveAfterMs: number,
): Silence | undefined {
  const wasAwake = (from: number, to: number) => to - from < 2 * paceMs(unresponsiveAfterMs)
  if (question.answered || !wasAwake(question.at, question.until)) return undefined
  if (before === undefined || !wasAwake(before.until, question.at))
    return { since: question.at, until: question.until, questions: 1 }
  return { since: before.since, until: question.until, questions: before.questions + 1 }
}

export function hangs({ since, until, questions }: Silence, unresponsiveAfterMs: number): boolean {
  return questions >= questionsMin && until - since >= unresponsiveAfterMs
}
