import { addSketches, countIn, type Sketch } from './sketch.ts'
import type { DayPeak } from './summary.ts'

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

const dayMs = 86_400_000
/** An hour of which less was recorded says little of its rate. */
export const coveredMsMin = 600_000

/** What it is counted from: hours, the oldest first, and who was there on which day. */
interface Counted {
  hours: readonly { from: number; to: number; coveredMs: number; requests: number; registered?: number }[]
  peaks: DayPeak[]
  /** By the begin of the day, ms since the epoch. */
  users: ReadonlyMap<number, Sketch>
}

/** Returns how much the app was used. Pure. @param since when the record begins */
export function usageOf({ hours, peaks, users }: Counted, since: number, until: number): Usage {
  const week = hours.filter(({ from }) => from >= until - 7 * dayMs)
  const rates = week.filter((one) => one.coveredMs >= coveredMsMin).map((one) => one.requests / (one.coveredMs / 1000))
  const registered = week.findLast((one) => one.registered !== undefined)?.registered
  const within = (days: number) => [...users].flatMap(([day, seen]) => (day > until - days * dayMs ? [seen] : []))
  const daily = within(8).map(countIn)
  const month = within(30)
  return {
    ...{ at: Math.min(hours.at(-1)?.to ?? since, until), peaks, isWholeMonth: since <= until - 30 * dayMs },
    ...(rates.length > 0 && { rate: Math.max(...rates) }),
    ...(registered !== undefined && { registered }),
    ...(daily.length > 0 && { daily: Math.max(...daily) }),
    ...(month.length > 0 && { monthly: countIn(month.reduce(addSketches)) }),
  }
}
