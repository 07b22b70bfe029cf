import { after, atMost, systemClock } from '../kernel/clock.ts'
import type { Http } from '../primitives/http/contract.ts'

const minuteMs = 60_000
/** A database that does not answer must not hold up a stop. */
const endMsMax = 5_000

/**
 * Runs work in each minute of the wall clock for as long as the app runs, one run after the other, and `end` at its stop.
 * @param work never rejects
 * @param lateMs so long after the minute has begun
 */
export function eachMinute(
  http: Http,
  { work, end, lateMs = 0 }: { work(): Promise<void>; end(): Promise<void>; lateMs?: number },
): void {
  let running: Promise<void> = Promise.resolve()
  let isEnding = false
  let endTimer = () => {}
  function arm(): void {
    if (isEnding) return
    endTimer = after(minuteMs - ((systemClock.now() - lateMs) % minuteMs), () => {
      running = work().finally(arm)
    })
  }
  arm()
  http.addHook('onClose', async () => {
    isEnding = true
    endTimer()
    await atMost(endMsMax, running.then(end))
  })
}
