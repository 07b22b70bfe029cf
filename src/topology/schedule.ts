/** Least numbers of processes at times of the week, in UTC: `mon-fri 08:00-18:00 4`. */
export interface ScheduleEntry {
  /** 0 is Sunday. */
  readonly days: readonly number[]
  /** Minutes since midnight; `to` may be 1440. An entry with `to` before `from` ends on the next day. */
  readonly from: number
  readonly to: number
  readonly least: number
}

const dayNames = ['sun', 'mon', 'tue', 'wed', 'thu', 'fri', 'sat']
const form = /^(?:([a-z]{3})(?:-([a-z]{3}))?\s+)?(\d\d):(\d\d)-(\d\d):(\d\d)\s+(\d{1,2})$/

/** Returns `undefined` for text that is no entry. Without days it holds on each. */
export function parseScheduleEntry(text: string): ScheduleEntry | undefined {
  const match = form.exec(text.trim())
  if (!match) return undefined
  const [first, last] = [match[1] ?? 'sun', match[2] ?? match[1] ?? 'sat'].map((name) => dayNames.indexOf(name))
  const [from, to] = [minutes(match[3]!, match[4]!), minutes(match[5]!, match[6]!)]
  const least = Number(match[7])
  if (first === -1 || last === -1 || from === undefined || to === undefined || from === to || least < 1)
    return undefined
  const count = ((last! - first! + 7) % 7) + 1
  return { days: Array.from({ length: count }, (_, index) => (first! + index) % 7), from, to, least }
}

function minutes(hours: string, rest: string): number | undefined {
  const sum = Number(hours) * 60 + Number(rest)
  return Number(rest) < 60 && sum <= 1440 ? sum : undefined
}

/** Returns the largest number that any entry asks for at a time, in ms since the epoch; 0 if none does. */
export function leastAt(entries: readonly ScheduleEntry[], now: number): number {
  const date = new Date(now)
  const [day, minute] = [date.getUTCDay(), date.getUTCHours() * 60 + date.getUTCMinutes()]
  const holds = ({ days, from, to }: ScheduleEntry) =>
    from < to
      ? days.includes(day) && minute >= from && minute < to
      : (days.includes(day) && minute >= from) || (days.includes((day + 6) % 7) && minute < to)
  return Math.max(0, ...entries.filter(holds).map(({ least }) => least))
}
