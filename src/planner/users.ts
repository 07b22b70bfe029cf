import { seededRandom } from '../kernel/random.ts'
import { draw, given, type Interval, intervalOf, measured, prior, sourceOf } from './interval.ts'
import { amount, countOf } from './words.ts'

/** What is known of the users. */
export interface Users {
  registered?: number
  /** Users who come on one day. */
  daily?: number
  /** Users who are there at the same time, in the peak hour. */
  concurrent?: number
  /** Requests per second in the peak hour. */
  rate?: number
  /** How long a visit takes. */
  sessionMs?: number
  /** Requests per minute that one user may send. */
  limitPerMinute?: number
}

/** What was recorded of the users today. */
export interface RecordedUsers {
  registered?: number
  daily?: number
  /** Requests per second in the peak hour. */
  rate?: number
}

/** From the registered to their requests; what cannot be told is left out. */
export interface Funnel {
  registered?: Interval
  daily?: Interval
  concurrent?: Interval
  rate?: Interval
}

/**
 * Registered users who come on a day. Source: of those who come in a month, 10 % (shops) to 30 % (social products) come on a day (June, "Stickiness
 * benchmark", averages by kind of product); of the registered it is less.
 */
const dailyShare = prior(0.03, 0.1, 0.3)
/** Visits of one of them. No source: few come once, few ten times. */
const visitsADay = prior(1, 1.5, 4)
/** Length of a visit in ms. Source: TPC-W 1.8 ends a session after 15 minutes on average; visits that read one page take about two. */
const sessionMs = prior(2 * 60_000, 6 * 60_000, 15 * 60_000)
/** Share of a day's visits in its peak hour. A flat day has 1/24 = 4 %; telephone networks are planned with a tenth in the busy hour. */
const peakShare = prior(0.06, 0.1, 0.17)
/** Time between two pages in seconds. Source: TPC-W 1.8, clause 5.3.2.1: 7 s, exponential. Readers take longer. */
const thinkSeconds = prior(7, 15, 40)
/** Requests for a page that reach the deployment: Conduit's home page makes 3, a page made on the server 1. Assets are kept by browsers and the CDN. */
const requestsAPage = prior(1, 2, 6)

const hourMs = 3_600_000
/**
 * Requests per second in the peak hour for each daily user, with all of the figures above at their most: 525 in that hour. What was recorded beyond it
 * is not of those who signed in, but of visitors, programs or a load test.
 */
const perDailyMost =
  (visitsADay.high * peakShare.high * (sessionMs.high / hourMs) * requestsAPage.high) / thinkSeconds.low
/** Requests per second of a user who is there, at most. */
const eachMost = requestsAPage.high / thinkSeconds.low
const runs = 500
const seed = 1

/**
 * Derives what was not given. Without users what was recorded counts; with more or fewer users than today the recorded shares do: how many of the
 * registered come on a day, and how many requests come with them. Otherwise Little's law: users at the same time = visits per second · length of a
 * visit. Pure.
 */
export function funnelOf(users: Users, recorded: RecordedUsers = {}): Funnel {
  const isToday = (users.registered ?? users.daily ?? users.concurrent) === undefined
  const today = (value: number | undefined) => (isToday && value !== undefined ? measured(value) : undefined)
  const share = recorded.registered && recorded.daily ? measured(recorded.daily / recorded.registered) : dailyShare
  const recordedEach = perDailyIn(recorded)
  const perDaily = recordedEach !== undefined && recordedEach <= perDailyMost ? measured(recordedEach) : undefined
  const random = seededRandom(seed)
  const length = users.sessionMs === undefined ? sessionMs : given(users.sessionMs)
  const perUser = { think: thinkSeconds, requests: requestsAPage }
  /** Draws all inputs of a formula, and their likely values. */
  function derive<Name extends string>(
    inputs: Record<Name, Interval>,
    formula: (one: Record<Name, number>) => number,
  ): Interval {
    const names = Object.keys(inputs) as Name[]
    const at = (pick: (one: Interval) => number) =>
      formula(Object.fromEntries(names.map((name) => [name, pick(inputs[name])])) as Record<Name, number>)
    const values = Array.from({ length: runs }, () => at((one) => draw(one, random)))
    return intervalOf(
      values,
      at(({ likely }) => likely),
      sourceOf(Object.values(inputs)),
    )
  }
  const registered = users.registered === undefined ? today(recorded.registered) : given(users.registered)
  const daily =
    users.daily === undefined
      ? (today(recorded.daily) ?? (registered && derive({ registered, share }, (one) => one.registered * one.share)))
      : given(users.daily)
  const concurrent =
    users.concurrent === undefined
      ? daily &&
        derive({ daily, visits: visitsADay, share: peakShare, length }, (one) =>
          // Nobody is there twice.
          Math.min(one.daily, (one.daily * one.visits * one.share * one.length) / hourMs),
        )
      : given(users.concurrent)
  const rate = users.rate === undefined ? (today(recorded.rate) ?? rateOf()) : given(users.rate)

  function rateOf(): Interval | undefined {
    if (users.concurrent === undefined && daily && perDaily)
      return derive({ daily, perDaily }, (one) => one.daily * one.perDaily)
    return concurrent && derive({ concurrent, ...perUser }, (one) => (one.concurrent * one.requests) / one.think)
  }
  return {
    ...(registered && { registered }),
    ...(daily && { daily }),
    ...(concurrent && { concurrent }),
    ...(rate && { rate }),
  }
}

const perDailyIn = ({ daily, rate }: RecordedUsers) => (daily && rate ? rate / daily : undefined)

/** Returns how many users at the same time make so many requests per second. */
export function usersAt(rate: number, { concurrent, rate: now }: Funnel): number {
  const each = concurrent && now ? now.likely / concurrent.likely : undefined
  const isOfUsers = each !== undefined && (each <= eachMost || concurrent!.from === 'given')
  return rate / (isOfUsers ? each : requestsAPage.likely / thinkSeconds.likely)
}

/** Returns what cannot be true at the same time, as sentences; none if all of it can. Nothing can be computed from it. Pure. */
export function contradictionsIn(users: Users): string[] {
  const { registered, daily, concurrent, rate, sessionMs: length, limitPerMinute } = users
  const found: string[] = []
  const atMost = (less: number | undefined, lessName: string, more: number | undefined, moreName: string) => {
    if (less !== undefined && more !== undefined && less > more)
      found.push(`${amount(less)} ${lessName} users cannot come from ${amount(more)} ${moreName} users.`)
  }
  atMost(daily, 'daily', registered, 'registered')
  atMost(concurrent, 'concurrent', daily, 'daily')
  if (daily === undefined) atMost(concurrent, 'concurrent', registered, 'registered')
  const ones = concurrent ?? daily ?? registered
  if (ones !== undefined && rate !== undefined && limitPerMinute !== undefined && rate > (ones * limitPerMinute) / 60) {
    const kind = concurrent !== undefined ? 'concurrent' : daily !== undefined ? 'daily' : 'registered'
    found.push(
      `${amount(rate)} requests/s from ${amount(ones)} ${kind} users are ${amount((60 * rate) / ones)} requests a minute each; a limit of ${limitPerMinute} requests a minute and user allows ${amount((ones * limitPerMinute) / 60)} requests/s at most.`,
    )
  }
  if (daily !== undefined && concurrent !== undefined && length !== undefined && concurrent <= daily) {
    const visits = (concurrent * hourMs) / length
    if (visits > daily * visitsADay.high)
      found.push(
        `${amount(concurrent)} concurrent users whose visits take ${amount(length / 60_000)} min are ${amount(visits)} visits in the peak hour (Little's law), ${amount(visits / daily)} of each of the ${amount(daily)} daily users.`,
      )
  }
  return found
}

/** Returns what is possible and unusual, as sentences. Pure. */
export function questionsTo(users: Users, recorded: RecordedUsers = {}): string[] {
  const { registered, daily, concurrent, rate, sessionMs: length } = users
  const found: string[] = []
  if (registered !== undefined && daily !== undefined && daily > registered * dailyShare.high)
    found.push(
      `${amount((100 * daily) / registered)} % of the registered users come each day; ${100 * dailyShare.low} to ${100 * dailyShare.high} % are usual.`,
    )
  if (daily !== undefined && concurrent !== undefined && length === undefined) {
    const minutes = (concurrent * 60) / (daily * peakShare.likely)
    const usual = (visitsADay.likely * sessionMs.high) / 60_000
    if (minutes > usual)
      found.push(
        `${amount(concurrent)} of ${amount(daily)} daily users at the same time: each of them is there for ${amount(minutes)} minutes a day (Little's law, with a tenth of the visits in the peak hour). More than ${amount(usual)} are unusual.`,
      )
  }
  if (concurrent !== undefined && rate !== undefined) {
    const each = rate / concurrent
    if (each > eachMost)
      found.push(
        `${amount(each)} requests/s of each concurrent user: a page every ${thinkSeconds.low} s with ${requestsAPage.high} requests would be ${amount(eachMost)}. Leave out what browsers, the CDN and the page cache answer, or count who sends them.`,
      )
  }
  const recordedEach = perDailyIn(recorded) ?? 0
  const isDerived = (registered ?? daily) !== undefined && concurrent === undefined && rate === undefined
  if (isDerived && recordedEach > perDailyMost)
    found.push(
      `The record has ${amount(recorded.rate!)} requests/s in the busiest hour and ${countOf(recorded.daily!, 'signed-in user')} on a day, ${amount(3_600 * recordedEach)} requests of each in that hour: more than ${amount(3_600 * perDailyMost)} are not of users who sign in. Who sends them? What so many users ask for is taken from priors.`,
    )
  return found
}
