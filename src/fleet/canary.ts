/**
 * Decides from the answers before and after a change whether it is worse: a new build of a deploy, or the rung of a climb. Pure.
 *
 * Few requests say little, so a difference counts only if chance would hardly make it (once in 10,000 looks), and if it is large
 * enough to matter. Requests whose durations are in one bucket of the histogram are equal.
 */

import { ownRouteLabel } from '../kernel/http-facts.ts'

/** What processes have answered to readers. A refused request says nothing of the code: it reached no handler. */
export interface Answers {
  /** Without refused ones. */
  readonly requests: number
  /** With 500 to 599. */
  readonly errors: number
  /** Refused with 4xx: beyond a limit, not valid. */
  readonly refused: number
  /** Refused with 503, under too much load. */
  readonly shed: number
  /** Number of requests that took at most so many seconds. */
  readonly within: ReadonlyMap<number, number>
}

export const noAnswers: Answers = { requests: 0, errors: 0, refused: 0, shed: 0, within: new Map() }

/** With fewer requests after the change nothing is decided. */
export const requestsMin = 30
const chanceMax = 1e-4
/** Worse by this share of all requests. */
const errorShareMin = 0.01
/** Slower by this factor and by this many seconds. A process that was started just now is slower by one bucket, which may be twice as long. */
const slowerFactor = 3
const slowerSeconds = 0.05
/** Requests that take longer than so many times the old p95 are slow. */
const slowFactor = 2

/** Reads the text of `/metrics`. */
export function answersIn(metrics: string): Answers {
  let [requests, errors, refused, shed] = [0, 0, 0, 0]
  const within = new Map<number, number>()
  for (const [, kind, labels, value] of metrics.matchAll(
    /^http_request_duration_seconds_(bucket|count)\{(.*)\} (\S+)$/gm,
  )) {
    if (ownRouteLabel.test(labels!)) continue
    const [isRefused, isError] = [/refused="yes"/.test(labels!), /status="5/.test(labels!)]
    if (kind === 'count') {
      if (isRefused && isError) shed += Number(value)
      else if (isRefused) refused += Number(value)
      else requests += Number(value)
      if (isError && !isRefused) errors += Number(value)
      continue
    }
    if (isRefused) continue
    const le = Number(/le="([^"+]+)"/.exec(labels!)?.[1] ?? Number.NaN)
    if (!Number.isNaN(le)) within.set(le, (within.get(le) ?? 0) + Number(value))
  }
  return { requests, errors, refused, shed, within }
}

/** What was answered since `before`; everything, if the process was started again meanwhile. */
export function answersSince(before: Answers, now: Answers): Answers {
  if (now.requests < before.requests || now.refused < before.refused) return now
  return combine(now, before, -1)
}

export function sumOf(all: readonly Answers[]): Answers {
  return all.reduce((sum, one) => combine(sum, one, 1), noAnswers)
}

function combine(a: Answers, b: Answers, sign: 1 | -1): Answers {
  const edges = new Set([...a.within.keys(), ...b.within.keys()])
  return {
    requests: a.requests + sign * b.requests,
    errors: a.errors + sign * b.errors,
    refused: a.refused + sign * b.refused,
    shed: a.shed + sign * b.shed,
    within: new Map([...edges].map((le) => [le, (a.within.get(le) ?? 0) + sign * (b.within.get(le) ?? 0)])),
  }
}

/** How sentences call what is compared. */
interface Names {
  readonly old: string
  readonly fresh: string
}
const builds: Names = { old: 'the old one', fresh: 'the new build' }

/** Returns in what the new build, or whatever `names` calls it, is worse, as a sentence; `undefined` if it is not, or too little is known. */
export function worseIn(old: Answers, fresh: Answers, names: Names = builds): string | undefined {
  // A build that blocks its process sheds requests; one that fails must not hide behind those that both shed.
  return moreErrors(old, fresh, names) ?? moreErrors(withShed(old), withShed(fresh), names) ?? slower(old, fresh, names)
}

function withShed(answers: Answers): Answers {
  return { ...answers, requests: answers.requests + answers.shed, errors: answers.errors + answers.shed }
}

function moreErrors(old: Answers, fresh: Answers, names: Names): string | undefined {
  if (fresh.requests < requestsMin) return undefined
  const [before, after] = [share(old.errors, old), share(fresh.errors, fresh)]
  if (after - before < errorShareMin || !isUnlikely(fresh.errors, fresh.requests, old.errors, old.requests))
    return undefined
  return `${percent(after)} of ${fresh.requests} requests to ${names.fresh} failed with 5xx, and ${percent(before)} of ${old.requests} to ${names.old}.`
}

function slower(old: Answers, fresh: Answers, names: Names): string | undefined {
  if (fresh.requests < requestsMin) return undefined
  const [p95Before, p95After] = [p95(old), p95(fresh)]
  if (p95Before === undefined || p95After === undefined) return undefined
  const edge = [...old.within.keys()].sort((a, b) => a - b).find((one) => one >= slowFactor * p95Before)
  const slow = (answers: Answers) => answers.requests - (answers.within.get(edge ?? p95Before) ?? answers.requests)
  const isSlower = p95After >= p95Before * slowerFactor && p95After - p95Before >= slowerSeconds
  if (!isSlower || !isUnlikely(slow(fresh), fresh.requests, slow(old), old.requests)) return undefined
  return `The p95 of ${names.fresh} is ${milliseconds(p95After)} over ${fresh.requests} requests, and that of ${names.old} ${milliseconds(p95Before)} over ${old.requests}: it is slower.`
}

/** The upper edge of the bucket that has the 95th percentile, in seconds. */
export function p95({ requests, within }: Answers): number | undefined {
  if (requests === 0) return undefined
  const edges = [...within].sort(([a], [b]) => a - b)
  return edges.find(([, count]) => count >= 0.95 * requests)?.[0] ?? edges.at(-1)?.[0]
}

/** What a deploy says when nothing was found. Pure. */
export function notWorse({ requests, refused, shed }: Answers): string {
  const without =
    refused + shed > 0 ? `, and ${refused + shed} more that were refused before they reached a handler` : ''
  return requests < requestsMin
    ? `too little traffic to compare (${requests} requests${without}): goes on by readiness alone`
    : `no worse after ${requests} requests${without}`
}

/** Whether so many of the new requests would hardly be such if their share were that of the old ones, or a little more. */
function isUnlikely(found: number, of: number, foundBefore: number, ofBefore: number): boolean {
  return tail(found, of, upperShare(foundBefore, ofBefore)) < chanceMax
}

/** The share that could be behind so many of so many, with a margin for chance (Wilson's interval, z = 2). */
function upperShare(found: number, of: number): number {
  if (of === 0) return 1
  const z2 = 4
  const p = found / of
  return Math.min(1, (p + z2 / (2 * of) + 2 * Math.sqrt((p * (1 - p)) / of + z2 / (4 * of * of))) / (1 + z2 / of))
}

/** The chance of at least `least` hits in `n` tries. */
function tail(least: number, n: number, p: number): number {
  if (least <= 0 || p >= 1) return 1
  let log = 0
  for (let k = 0; k < least; k += 1) log += Math.log((n - k) / (k + 1))
  let term = Math.exp(log + least * Math.log(p) + (n - least) * Math.log1p(-p))
  let sum = 0
  for (let k = least; k <= n; k += 1) {
    sum += term
    term *= ((n - k) / (k + 1)) * (p / (1 - p))
    if (k > n * p && term < sum * 1e-9) break
  }
  return sum
}

function share(part: number, { requests }: Answers): number {
  return requests === 0 ? 0 : part / requests
}

function percent(part: number): string {
  return `${(part * 100).toFixed(part < 0.1 ? 1 : 0)} %`
}

function milliseconds(seconds: number): string {
  return `${Math.round(seconds * 1000)} ms`
}
