/** Pure: moments in the time zones of users, by the rules that Node itself has of them. */

const quarterMs = 15 * 60_000
const formatsMax = 1_000
const formats = new Map<string, Intl.DateTimeFormat>()

/** An IANA name such as `Europe/Berlin` or `UTC`; offsets such as `+01:00` know nothing of summer. */
export function isTimeZone(name: string): boolean {
  if (!/^[A-Za-z][A-Za-z0-9_+-]*(\/[A-Za-z0-9_+-]+)*$/.test(name)) return false
  try {
    formatOf(name)
    return true
  } catch {
    return false
  }
}

/** Making one costs a thousand times what using it does. */
function formatOf(timeZone: string): Intl.DateTimeFormat {
  let format = formats.get(timeZone)
  if (!format) {
    format = new Intl.DateTimeFormat('en-US', {
      timeZone,
      hourCycle: 'h23',
      year: 'numeric',
      month: '2-digit',
      day: '2-digit',
      hour: '2-digit',
    })
    if (formats.size >= formatsMax) formats.clear()
    formats.set(timeZone, format)
  }
  return format
}

/** What calendar and clock show there: `{ day: '2026-03-29', hour: 3 }`. */
export function localTime(at: Date, timeZone: string): { day: string; hour: number } {
  const parts = Object.fromEntries(
    formatOf(timeZone)
      .formatToParts(at)
      .map(({ type, value }) => [type, value]),
  )
  return { day: `${parts.year}-${parts.month}-${parts.day}`, hour: Number(parts.hour) }
}

/**
 * The first moment after `after` at which a clock there reaches `hour`; once a day. Where the clocks go forward over that
 * hour it is the moment after the gap, where they go back it is the first of the two. All zones of today differ from UTC by
 * whole quarters of an hour, so each quarter is looked at.
 */
export function nextAt(hour: number, timeZone: string, after: Date): Date {
  let at = Math.floor(after.getTime() / quarterMs) * quarterMs
  let before = localTime(new Date(at), timeZone)
  for (;;) {
    at += quarterMs
    const now = localTime(new Date(at), timeZone)
    const reachedBefore = before.day === now.day && before.hour >= hour
    if (now.hour >= hour && !reachedBefore) return new Date(at)
    before = now
  }
}
