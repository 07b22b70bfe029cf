import { type Evidence, hoursMin, unsteadinessOf } from './evidence.ts'
import { leadDays } from './forecast.ts'
import { dayOf, dayText } from './trend.ts'
import { amount, percent } from './words.ts'

/** Whether it is time to pay for more, with the reason as one sentence. */
export type Pressure = { isDue: true; why: string } | { isDue: false; why: string; revisitWhen: string }

/** Above 60 % of CPU a further machine is started where that is automatic; below, there is time. */
export const freeEnough = 0.4
/** A step takes 30 to 60 days; with less than this a bad week comes first. */
export const freeLeast = 0.2
const requestsMin = 1_000
/** Weeks that scatter so much around their own trend show no trend. No source: a steady product scatters by a tenth. */
const unsteady = 0.4
const steady = 0.3
/** Of the users of four weeks ago. */
const leftShare = 0.7
const usersMin = 20
/** A day is an event if its peak is so many times that of a usual day. */
const eventTimes = 3
const yearDays = 365

/** Judges whether capacity is needed. Pure. */
export function pressureOf(evidence: Evidence): Pressure {
  const { forecast, window, today } = evidence
  if (window.hours < hoursMin || window.requests < requestsMin || !forecast?.headroom) {
    return notDue(
      `Too little is recorded to judge by: a day with ${amount(requestsMin)} requests is the least.`,
      window.hours < hoursMin ? `hours_recorded >= ${hoursMin}` : `requests_per_day >= ${requestsMin}`,
    )
  }
  const free = forecast.headroom.free.likely
  const event = eventIn(evidence)
  if (event) return event
  if (free >= freeLeast) {
    const unsettled = unsettledIn(evidence)
    if (unsettled) return unsettled
  }
  const room = `${percent(Math.max(0, free))} of the capacity is free in the busiest hour of the last week`
  if (free < freeLeast) return due(`Only ${room}.`)
  const { date, begin } = forecast
  if (!date || 'unknown' in date) {
    const growth = date ? `, and when the ceiling is reached is not known: ${date.unknown}` : ''
    if (free >= freeEnough) return notDue(`${capital(room)}${growth}.`, `headroom < ${freeEnough}`)
    return notDue(
      `${capital(room)}${growth}.`,
      `headroom < ${freeLeast} or weeks_recorded >= ${evidence.weeks.length + 2}`,
    )
  }
  const when = `the ceiling is reached on ${dayText(date.likely)} (between ${dayText(date.low)} and ${dayText(date.high)})`
  if (begin!.from <= today)
    return due(`${capital(room)}, but ${when}, and a step takes ${leadDays.least} to ${leadDays.most} days.`)
  if (date.likely > today + yearDays)
    return notDue(
      `${capital(room)}, and ${when}, which is more than a year away.`,
      `days_left < 150 or headroom < ${freeLeast}`,
    )
  return notDue(
    `${capital(room)}, and ${when}: it is enough to begin on ${dayText(begin!.from)}.`,
    `day >= ${dayText(begin!.from)} or headroom < ${freeLeast}`,
  )
}

const due = (why: string): Pressure => ({ isDue: true, why })
const notDue = (why: string, revisitWhen: string): Pressure => ({ isDue: false, why, revisitWhen })
const capital = (text: string) => text.charAt(0).toUpperCase() + text.slice(1)

/** One day that stood out and is over: it says what an event needs, and nothing of the next months. */
function eventIn({ peaks, forecast, today }: Evidence): Pressure | undefined {
  const last = peaks.filter(({ day }) => dayOf(day) > today - 28).sort((a, b) => dayOf(a.day) - dayOf(b.day))
  if (last.length < 8) return undefined
  const usual = last.map(({ peak }) => peak).sort((a, b) => a - b)[Math.floor(last.length / 2)]!
  const highest = last.reduce((most, one) => (one.peak > most.peak ? one : most))
  const isOver = last.at(-1)!.peak < 1.5 * usual && highest.day !== last.at(-1)!.day
  const isRecent = dayOf(highest.day) >= today - 8
  const free = 1 - usual / forecast!.ceiling.likely
  if (!isRecent || !isOver || highest.peak < eventTimes * usual || free < freeEnough) return undefined
  return notDue(
    `${highest.day} had ${amount(highest.peak / usual)} times the peak of a usual day, and it is over: on a usual day ${percent(free)} of the capacity is free. For the next such day ask "rung plan --event".`,
    `day >= ${dayText(dayOf(highest.day) + 9)}`,
  )
}

/** Usage that nobody can plan for: what it needs next is users who stay, not servers. */
function unsettledIn({ weeks, today }: Evidence): Pressure | undefined {
  const scatter = unsteadinessOf(weeks.slice(-8).map(({ requests }) => requests))
  if (scatter !== undefined && scatter >= unsteady) {
    return notDue(
      `The weeks scatter by ${percent(scatter)} around their trend: usage is too unsteady to plan for, as before a product has found its users. Do not scale yet.`,
      `unsteadiness < ${steady} or headroom < ${freeLeast}`,
    )
  }
  const users = weeks.slice(-4).map((week) => week.users)
  const falls = users.length === 4 && users.every((count, index) => index === 0 || count <= users[index - 1]!)
  if (falls && users[0]! >= usersMin && users[3]! <= leftShare * users[0]!) {
    return notDue(
      `Signed-in users fell from ${amount(users[0]!)} to ${amount(users[3]!)} a week within four weeks: users do not stay, which more capacity does not change. Do not scale yet.`,
      `headroom < ${freeLeast} or day >= ${dayText(today + 28)}`,
    )
  }
  return undefined
}
