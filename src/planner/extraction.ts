import { amount, percent } from './words.ts'

/** What is known of a module that may get nodes of its own, over the last week. Shares are from 0 to 1. */
export interface ModuleFacts {
  readonly module: string
  /** Hours of the record that the facts are from. */
  readonly hours: number
  readonly requests: Share & { p95Ms: number }
  /** Its jobs and deliveries. */
  readonly work: Share
  /** Who calls it, and whom it calls; the time of a call includes what the callee waits for. */
  readonly callers: readonly Calls[]
  readonly callees: readonly Calls[]
  /** In the busiest hour: the share of time in which the event loop of a process that answers was busy. */
  readonly loopMost: number
  /** 95th percentile of the waits for a connection of the database, ms. */
  readonly poolWaitMs95: number
  /** The longest wait of a job that could run, in seconds. */
  readonly oldestJobSeconds: number
}

/** What a module does of all that is done of a kind. */
export interface Share {
  readonly count: number
  /** Of the time of all, 0 to 1. */
  readonly share: number
  /** How many times as long one takes as one of another module, on average; 0 if no other module does any. */
  readonly timesOthers: number
}

export interface Calls {
  readonly module: string
  readonly count: number
  readonly seconds: number
}

export interface Judgement {
  readonly isWorth: boolean
  /** One sentence for each reason. */
  readonly reasons: readonly string[]
}

/** A module that does less than this of the work takes little with it. */
const shareMin = 0.25
/** One that takes as long as the others' keeps nobody waiting who would not wait for another one as well. */
const timesOthersMin = 3
/** From here on requests wait for their turn: with random arrivals the queue is longer than one (M/M/1 at 0.6: 1.5). */
const loopBusy = 0.6
/** Waits that a user notices, beside the answer itself. */
const poolWaitMs = 50
const jobWaitSeconds = 10
const hoursMin = 1
const hourS = 3_600

/**
 * Judges whether nodes of its own are worth it: something is scarce, and the module takes a good part of just that, in long pieces for which
 * the others wait. Otherwise one process more helps as well, and costs no calls over the network. Pure.
 */
export function judgeExtraction(facts: ModuleFacts): Judgement {
  const { module, hours, requests, work, loopMost, poolWaitMs95, oldestJobSeconds } = facts
  if (hours < hoursMin)
    return no('Less than an hour is recorded, which is too little to judge by. Let the app be used, or: rung load')
  const scarce = [
    ...(loopMost >= loopBusy
      ? [
          {
            what: `the event loop of a web process was busy ${percent(loopMost)} of the busiest hour`,
            of: requests,
            noun: 'requests',
          },
        ]
      : []),
    ...(poolWaitMs95 >= poolWaitMs
      ? [
          {
            what: `5 % of the waits for a connection took more than ${amount(poolWaitMs95)} ms`,
            of: requests,
            noun: 'requests',
          },
        ]
      : []),
    ...(oldestJobSeconds >= jobWaitSeconds
      ? [{ what: `a job waited for ${amount(oldestJobSeconds)} s`, of: work, noun: 'jobs and deliveries' }]
      : []),
  ]
  if (scarce.length === 0)
    return no(
      `Nothing is scarce: event loops were busy at most ${percent(loopMost)} of an hour, connections were had within ${amount(poolWaitMs95)} ms, and jobs waited at most ${amount(oldestJobSeconds)} s.`,
    )
  const due = scarce.filter(({ of }) => of.share >= shareMin && of.timesOthers >= timesOthersMin)
  const reason = ({ what, of, noun }: (typeof scarce)[number]) =>
    `${capital(what)}, and "${module}" takes ${percent(of.share)} of the time of all ${noun}${of.share >= shareMin && of.timesOthers > 0 ? `, each ${amount(of.timesOthers)} times as long as one of the others` : ''}.`
  if (due.length > 0) return { isWorth: true, reasons: due.map(reason) }
  return no(
    ...scarce.map(
      (one) => `${reason(one)} One process more helps as much: rung scale ${one.of === work ? 'worker' : 'web'}=…`,
    ),
  )
}

/** Returns calls per second. */
export function ratesOf(calls: readonly Calls[], hours: number): { module: string; perS: number; ms: number }[] {
  return calls.map(({ module, count, seconds }) => ({
    module,
    perS: hours === 0 ? 0 : count / (hours * hourS),
    ms: count === 0 ? 0 : (1_000 * seconds) / count,
  }))
}

function no(...reasons: string[]): Judgement {
  return { isWorth: false, reasons }
}

const capital = (text: string) => text.charAt(0).toUpperCase() + text.slice(1)
