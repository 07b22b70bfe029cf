import type { Static, TSchema } from 'typebox'
import type { Invalidating } from '../primitives/cache/cache.ts'
import type { SqlTag } from '../primitives/data/sql.ts'
import type { ConsumerOptions, Delivered, Event, Publish } from '../primitives/events/events.ts'
import type { CronOptions } from '../primitives/jobs/cron.ts'
import type { Enqueue, Job } from '../primitives/jobs/jobs.ts'
import type { JobRun } from '../primitives/jobs/work.ts'
import type { Indexing } from '../primitives/search/search.ts'

/** The handle of a transaction: statements, and what rides its commit. */
export interface Tx extends SqlTag, Enqueue, Publish, Indexing, Invalidating {}

/** What a module does off the request path. Inert: made by `handle`, `on` and `cron`. */
export type Work = HandledJob | Consumer | Scheduled

export interface HandledJob {
  kind: 'job'
  job: Job
  run(input: never, run: JobRun<Tx>): PromiseLike<unknown> | unknown
}

export interface Consumer {
  kind: 'event'
  event: Event
  run(delivered: Delivered, tx: Tx): PromiseLike<unknown> | unknown
  options: ConsumerOptions
}

export interface Scheduled {
  kind: 'cron'
  pattern: string
  job: Job
  input: unknown
  options: CronOptions
}

/**
 * Says how a job is done. It may run more than once (a crash, a failure): writes inside `run.complete` happen once, others
 * must bear a repetition.
 */
export function handle<Schema extends TSchema>(
  job: Job<Schema>,
  run: (input: Static<Schema>, run: JobRun<Tx>) => PromiseLike<unknown> | unknown,
): Work {
  return { kind: 'job', job: job as unknown as Job, run: run as never }
}

/**
 * Listens to an event. What the handler writes with `tx` is committed together with the end of the delivery: it happens
 * exactly once.
 */
export function on<Schema extends TSchema>(
  event: Event<Schema>,
  run: (delivered: Delivered<Schema>, tx: Tx) => PromiseLike<unknown> | unknown,
  options: ConsumerOptions = {},
): Work {
  return { kind: 'event', event: event as unknown as Event, run: run as never, options }
}

/** Enqueues a job at regular times, once for each, whatever the number of processes: `cron('0 9 * * 1', sendReport, {})`. */
export function cron<Schema extends TSchema>(
  pattern: string,
  job: Job<Schema>,
  input: Static<Schema>,
  options: CronOptions = {},
): Work {
  return { kind: 'cron', pattern, job: job as unknown as Job, input, options }
}
