import { gauged, sketched } from './groups.ts'
import { addSketches, countIn, type Sketch } from './sketch.ts'
import { coveredMs, type DayPeak, dayPeaks, requestsOf } from './summary.ts'
import type { Slice } from './table.ts'

/** How much the app is used, as it was recorded. What is not known is left out. */
export interface Usage {
  /** The end of what was recorded, ms since the epoch. */
  at: number
  /** Of each whole day. */
  peaks: DayPeak[]
  /** Requests per second in the busiest hour of the last seven days. */
  rate?: number
  /** Users who are registered, if `defineApp` names their table. */
  registered?: number
  /** Signed-in users who sent a request on one day: the day with the most of the last seven. */
  daily?: number
  /** Signed-in users who sent a request in the last 30 days. */
  monthly?: number
  /** Whether all of these 30 days are in the record; otherwise a month has more users than `monthly`. */
  isWholeMonth: boolean
}

const hourMs = 3_600_000
const dayMs = 24 * hourMs
/** An hour of which less was recorded says little of its rate. */
const coveredMsMin = 600_000

/** Counts the usage of hours that are read anyway, the oldest first. @param since when the record begins */
export function countUsage(since: number, now: number): { add(hour: Slice): void; end(): Usage } {
  const hours: { from: number; requests: number }[] = []
  const users = new Map<string, Sketch>()
  let [rate, registered, at] = [undefined as number | undefined, undefined as number | undefined, since]
  return {
    add({ from, to, frames }) {
      const requests = requestsOf(frames)
      hours.push({ from, requests })
      at = Math.min(to, now)
      const [seen] = sketched(frames, 'users_active', [])
      const day = new Date(from).toISOString().slice(0, 10)
      if (seen) users.set(day, addSketches(users.get(day) ?? {}, seen.value))
      if (from < now - 7 * dayMs) return
      const covered = coveredMs(frames)
      if (covered >= coveredMsMin) rate = Math.max(rate ?? 0, requests / (covered / 1000))
      registered = gauged(frames, 'users_registered', [])[0]?.value.max ?? registered
    },
    end() {
      const within = (days: number) => [...users].filter(([day]) => Date.parse(day) > now - days * dayMs)
      const counts = within(8).map(([, sketch]) => countIn(sketch))
      const month = within(30).map(([, sketch]) => sketch)
      return {
        at,
        peaks: dayPeaks(hours, since, now),
        isWholeMonth: since <= now - 30 * dayMs,
        ...(rate !== undefined && { rate }),
        ...(registered !== undefined && { registered }),
        ...(counts.length > 0 && { daily: Math.max(...counts) }),
        ...(month.length > 0 && { monthly: countIn(month.reduce(addSketches)) }),
      }
    },
  }
}
