import type { Completion, Invocation } from '../../src/history/recorder.ts'
import { checkHistory, createRecorder, type Operation } from '../../src/history.ts'
import { seededRandom } from '../../src/kernel/random.ts'

/** Writes a history by hand: one line for each operation, from one time to another. */
export type Written = [
  beganAt: number,
  endedAt: number,
  invocation: Invocation,
  outcome?: 'ok' | 'fail' | 'info',
  completion?: Completion,
]

export function historyOf(lines: readonly Written[]): readonly Operation[] {
  let at = 0
  const recorder = createRecorder({ now: () => at })
  const steps = lines.flatMap(([beganAt, endedAt, invocation, outcome = 'ok', completion]) => {
    let begun: ReturnType<typeof recorder.begin>
    return [
      { at: beganAt, do: () => (begun = recorder.begin(invocation)) },
      { at: endedAt, do: () => (outcome === 'ok' ? begun.ok(completion) : begun[outcome]('broken')) },
    ]
  })
  for (const step of steps.sort((a, b) => a.at - b.at)) {
    at = step.at
    step.do()
  }
  return recorder.operations()
}

/** All anomalies that any checker finds, by its name. No account may hold less than nothing. */
export function findings(
  lines: readonly Written[] | readonly Operation[],
  initial?: Readonly<Record<string, number>>,
): string[] {
  const history = Array.isArray(lines[0]) ? historyOf(lines as Written[]) : (lines as Operation[])
  const verdicts = checkHistory(history, { conservation: { least: 0, ...(initial && { initial }) } })
  return verdicts.flatMap(({ checker, anomalies }) => anomalies.map(({ text }) => `${checker}: ${text}`))
}

/**
 * A database with one primary whose writes happen in one order, and sessions that read it and write to it, all correct: what a session
 * reads covers what it has seen. `lagged` reads go back by so many writes of the whole history, which is wrong.
 */
export function soundHistory(
  count: number,
  { versions = true, seed = 7, lagged = (_n: number): number => 0 } = {},
): readonly Operation[] {
  const random = seededRandom(seed)
  const pick = (below: number) => Math.floor(random() * below)
  const [sessions, keys] = [50, Math.max(10, Math.floor(count / 200))]
  let at = 0
  const recorder = createRecorder({ now: () => at })
  /** All writes in their order, and for each key when it had which value. */
  const log: { key: number; value: number; version: number }[] = []
  const byKey = Array.from({ length: keys }, () => [] as { place: number; value: number; version: number }[])
  const seen = new Int32Array(sessions)
  for (let n = 0; n < count; n += 1) {
    const session = pick(sessions)
    const key = pick(keys)
    const base = { session: `s${session}`, key: `k${key}` }
    at += 1
    if (random() < 0.3) {
      const begun = recorder.begin({ ...base, kind: 'write', value: n })
      at += 1
      const outcome = random()
      if (outcome < 0.02) begun.fail('refused')
      const happens = outcome >= 0.02 && outcome < 0.98 ? true : outcome >= 0.99
      if (happens) {
        log.push({ key, value: n, version: byKey[key]!.length + 1 })
        byKey[key]!.push({ place: log.length, value: n, version: byKey[key]!.length + 1 })
      }
      if (outcome >= 0.98) begun.info('no answer')
      else if (outcome >= 0.02) {
        begun.ok({ node: 'web-1', ...(versions && { version: byKey[key]!.length }) })
        seen[session] = log.length
      }
      continue
    }
    // Any place from what the session has seen to the end of the log.
    const from = Math.max(0, seen[session]! - lagged(n))
    const place = lagged(n) > 0 ? from : from + pick(log.length - from + 1)
    const values = byKey[key]!
    let index = values.length
    while (index > 0 && values[index - 1]!.place > place) index -= 1
    const found = values[index - 1]
    const begun = recorder.begin({ ...base, kind: 'read' })
    at += 1
    begun.ok({ node: 'web-2', value: found?.value ?? null, ...(versions && { version: found?.version ?? 0 }) })
    seen[session] = Math.max(seen[session]!, place)
  }
  return recorder.operations()
}
