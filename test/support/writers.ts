import { type At, idsIn, post } from './ledger.ts'
import { PositionJar } from './position-jar.ts'
import { until } from './process.ts'

/** Clients of the ledger that write while servers are lost. Each is a session, which reads what it has written. */
export interface Writers {
  readonly acknowledged: readonly string[]
  /** Answers to writes other than 201, and how often they came. */
  readonly others: ReadonlyMap<string, number>
  /** Own entries that a session did not see. */
  readonly unseen: readonly string[]
  /** Resolves with the ms until the first acknowledgement of a write that is sent after the call. */
  writtenAgain(): Promise<number>
  /** Returns the longest time in ms without an acknowledgement since the last call. */
  longestPause(): number
  end(): Promise<Outcome>
}

export interface Outcome {
  /** Acknowledged, and not there. */
  lost: string[]
  /** There, though the answer says that nothing has happened. */
  denied: string[]
}

/** After these the entry may be there or not. */
const isUnknown = (answer: string) => /DATA_OUTCOME_UNKNOWN|no answer/.test(answer)

/** @param at the processes of the app: each request goes to the next one */
export function startWriters(at: readonly At[], count = 3): Writers {
  const acknowledged: string[] = []
  const unseen: string[] = []
  const others = new Map<string, number>()
  const refused: string[] = []
  let over = false
  let pauseMs = 0
  let acknowledgedAt = performance.now()
  let waiting: { since: number; back(at: number): void } | undefined

  async function session(writer: number): Promise<void> {
    const jar = new PositionJar()
    for (let n = 1; !over; n += 1) {
      const id = `${writer}-${n}`
      const sentAt = performance.now()
      const answer = await post(at[n % at.length]!, id, jar)
      if (answer !== '201') {
        others.set(answer, (others.get(answer) ?? 0) + 1)
        if (!isUnknown(answer)) refused.push(id)
        continue
      }
      acknowledged.push(id)
      pauseMs = Math.max(pauseMs, performance.now() - acknowledgedAt)
      acknowledgedAt = performance.now()
      if (waiting && sentAt >= waiting.since) waiting.back(performance.now())
      const elsewhere = at[(n + 1) % at.length]!
      const seen = await fetch(`${elsewhere.url}/entries/${id}`, { headers: jar.header }).catch(() => undefined)
      await seen?.arrayBuffer()
      if (seen?.status === 404) unseen.push(id)
      else if (seen) jar.note(seen.headers)
    }
  }

  const writing = Array.from({ length: count }, (_, index) => session(index))
  return {
    acknowledged,
    others,
    unseen,
    async writtenAgain() {
      const { promise, resolve } = Promise.withResolvers<number>()
      const since = performance.now()
      waiting = { since, back: resolve }
      const ms = Math.round((await promise) - since)
      waiting = undefined
      return ms
    },
    longestPause() {
      const ms = Math.round(pauseMs)
      pauseMs = 0
      return ms
    },
    async end() {
      over = true
      await Promise.all(writing)
      // Whoever has written last sees everything.
      const jar = new PositionJar()
      await until(async () => (await post(at[0]!, `last-${performance.now()}`, jar)) === '201', 'it is written again')
      const there = new Set(await idsIn(at[0]!, jar))
      return { lost: acknowledged.filter((id) => !there.has(id)), denied: refused.filter((id) => there.has(id)) }
    },
  }
}
