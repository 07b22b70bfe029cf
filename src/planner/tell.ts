import type { Need } from './capacity.ts'
import { type Begin, type Forecast, leadDays } from './forecast.ts'
import type { Objective } from './queueing.ts'
import { type Days, dayText } from './trend.ts'
import { amount, percent, roughly, span } from './words.ts'

/** Returns what a forecast says, as sentences. Pure. */
export function told(forecast: Forecast): string[] {
  return [
    ...ceilingTold(forecast),
    ...headroomTold(forecast),
    ...checkTold(forecast),
    ...scalingTold(forecast),
    ...dateTold(forecast),
    ...timesTold(forecast),
    ...eventTold(forecast),
    ...forecast.questions.map((one) => `A question: ${one}`),
  ]
}

function objectiveTold({ p95Ms, failing }: Objective): string {
  const failed = `at most ${percent(failing)} failed`
  return p95Ms === undefined ? failed : `p95 at most ${amount(p95Ms)} ms, ${failed}`
}

function ceilingTold({ ceiling, objective, p95Ms, concurrentAtCeiling, stations }: Forecast): string[] {
  if (ceiling.likely === 0)
    return [
      `The objective (${objectiveTold(objective)}) holds at no rate: without any queue the p95 is ${amount(p95Ms)} ms.`,
    ]
  const firsts = stations.filter(({ first }) => first > 0).sort((a, b) => b.first - a.first)
  return [
    `The ceiling is ${span(ceiling)} requests/s (${objectiveTold(objective)}): about ${roughly(concurrentAtCeiling)} concurrent users.`,
    `First used up: ${firsts.map(({ name, first }) => `${name} in ${percent(first)}`).join(', ')} of 500 simulations.`,
  ]
}

/** What is not free is told as nothing, not as less. */
const share = (value: number) => percent(Math.max(0, value))

/** More is not told: the costs of so many requests were neither measured nor known before. */
const growthMax = 10
const moreThanTold = `to more than ${growthMax} times as much`

function headroomTold({ headroom, ceiling, users: { rate } }: Forecast): string[] {
  if (!headroom || !rate || ceiling.likely === 0) return []
  const { free, growth } = headroom
  if (free.likely <= 0)
    return [`${amount(rate.likely)} requests/s are ${amount(rate.likely / ceiling.likely)} times the ceiling.`]
  const grow = growth.likely > growthMax ? moreThanTold : `by ${span(growth, share)}`
  return [
    `At ${amount(rate.likely)} requests/s ${span(free, share)} of the capacity is free, and there is room to grow ${grow}.`,
  ]
}

function checkTold({ check }: Forecast): string[] {
  if (!check) return []
  const { predicted, measured } = check
  const off = predicted.likely / measured.likely - 1
  return [
    `The load test found ${span(measured)} requests/s; for its machine and its objective the model says ${span(predicted)}, which is ${percent(Math.abs(off))} ${off < 0 ? 'less' : 'more'}.`,
  ]
}

function scalingTold({ scaling, stations, times, event }: Forecast): string[] {
  if (!stations.some(({ name }) => name === 'web')) return []
  if ('unknown' in scaling) {
    // Only who asks for more processes needs to know.
    return times || event
      ? [`Web processes are taken to carry as much each, however many they are: ${scaling.unknown}.`]
      : []
  }
  const { contention, coherency, peak } = scaling
  return [
    `Of the work of web processes ${span(contention, percent)} is done by one at a time, and each pair costs ${span(coherency, percent)} of a request.`,
    ...(peak === undefined ? [] : [`Beyond ${amount(Math.floor(peak))} of them the throughput falls.`]),
  ]
}

function dateTold({ date, begin, today }: Forecast): string[] {
  if (!date) return []
  if ('unknown' in date) return [`When the ceiling is reached is not yet known: ${date.unknown}.`]
  return [
    `The ceiling is reached on ${dayText(date.likely)} (${betweenTold(date)}).`,
    `Begin with the next step ${beginTold(begin!, today)}: it takes ${leadDays.least} to ${leadDays.most} days, and the ceiling may come early.`,
  ]
}

const betweenTold = ({ low, high }: Days) => `between ${dayText(low)} and ${dayText(high)}`
function beginTold({ from, to }: Begin, today: number): string {
  if (to <= today) return 'now'
  return from <= today ? `before ${dayText(to)}` : `between ${dayText(from)} and ${dayText(to)}`
}

function timesTold({ times }: Forecast): string[] {
  if (!times) return []
  return [
    `${amount(times.times)} times the rate of today are ${amount(times.rate)} requests/s: carried in ${percent(times.carriedIn)} of the simulations.${needsAhead(times.needs)}`,
  ]
}

function eventTold({ event, today }: Forecast): string[] {
  if (!event) return []
  const { day, rate, isForecast, carriedIn, begin, needs } = event
  const from = isForecast ? 'the trend' : 'the rate of today, as no trend is known'
  return [
    `On ${dayText(day)} ${span(rate)} requests/s are expected, from ${from}: carried in ${percent(carriedIn)} of the simulations. If that is too few, begin ${beginTold(begin, today)}.${needsAhead(needs)}`,
  ]
}

/** Where no rate holds the objective, nothing that is added helps. */
function needsAhead(needs: readonly Need[]): string {
  return needs.length > 0 ? ' What is used up first, and what it needs in the likely case:' : ''
}

/** The cells of a row: part, when it is used up, what it has, what it needs. */
export function needsTold({ name, usedUpAt, has, needs, unit }: Need): string[] {
  const cells = [name, `${amount(usedUpAt)} ×`, amount(has)]
  if (needs !== undefined) return [...cells, amount(needs), unit]
  return [...cells, '—', name === 'app' ? 'a higher rung' : 'cannot grow here']
}
