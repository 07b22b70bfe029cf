import { createHash } from 'node:crypto'
import type { Static, TSchema } from 'typebox'
import { RungError } from '../../kernel/errors.ts'
import { positionToJson } from '../../kernel/position.ts'
import { type AsJson, jsonCheck } from '../../kernel/schema.ts'
import { currentScope } from '../../kernel/scope.ts'
import { type Duration, toMs } from '../../kernel/units.ts'
import type { Riding } from '../data/rides.ts'
import type { Queue } from './contract.ts'
import type { Context, Listed, NewItem, Priority, Ref } from './items.ts'

/** A kind of job: what it is called, what it needs, how it is treated. Inert; a module says with `handle` how it is done. */
export interface Job<Schema extends TSchema = TSchema> {
  readonly name: string
  readonly schema: Schema
  readonly options: JobOptions<Static<Schema>>
  readonly check: (input: unknown) => AsJson
}

export interface JobOptions<Input> extends RetryOptions {
  /** Jobs of one queue share its limits. Default: the name, so that each kind has its own. */
  queue?: string
  /** Runs at once in one process. Default 10. */
  concurrency?: number
  /** Runs at once over all processes. Default: no limit. */
  fleetConcurrency?: number
  /** Jobs with the same key (an account, a file) run at most `keyConcurrency` at once, over all processes. */
  key?: (input: Input) => string | undefined
  /** Default 1. */
  keyConcurrency?: number
  /** Keep it after its end, for `jobs.find` and `rung jobs`. Default false: a job that went well leaves no row. */
  keep?: boolean
}

export interface RetryOptions {
  /** Tries, all in all, before it is dead. Default 10. */
  attempts?: number
  /** Between tries: full jitter below `base · 2^failures`, at most `max`. Default 1 s and 10 min. */
  backoff?: { base?: Duration; max?: Duration }
  /** A run that takes longer is cancelled and counts as failed. Default 1 min. */
  timeout?: Duration
}

export interface EnqueueOptions {
  /** Not before this time has passed. */
  delay?: Duration
  priority?: 'high' | 'normal' | 'low'
  /** Nothing happens while another job of this queue with the same text has not ended. */
  unique?: string
}

/** Returned by `enqueue`. The commit sets its id. */
export type JobRef = Readonly<Ref>

/** Part of a transaction's handle. */
export interface Enqueue {
  /** Runs the job after this transaction has committed; never when it does not. */
  enqueue<Schema extends TSchema>(job: Job<Schema>, input: Static<Schema>, options?: EnqueueOptions): JobRef
}

/** Jobs as a module sees them, outside transactions. */
export interface Jobs {
  /** Where it stands; `undefined` for one that ended and was not kept. */
  find(id: number): Promise<JobStatus | undefined>
  /** A waiting one never runs, a running one is told by its signal. False when it had ended. */
  cancel(id: number): Promise<boolean>
}

export type JobStatus = Pick<Listed, 'id' | 'name' | 'state' | 'progress' | 'error' | 'failures'> & {
  createdAt: Date
  endedAt: Date | null
}

/**
 * Describes a kind of job.
 * @throws APP_INVALID for a name or options that mean nothing
 */
export function defineJob<Schema extends TSchema>(
  name: string,
  schema: Schema,
  options: JobOptions<Static<Schema>> = {},
): Job<Schema> {
  checkName('job', name)
  if (options.queue !== undefined) checkName('queue', options.queue)
  for (const limit of ['concurrency', 'fleetConcurrency', 'keyConcurrency', 'attempts'] as const) {
    const value = options[limit]
    if (value !== undefined && !(Number.isInteger(value) && value >= 1)) {
      throw new RungError('APP_INVALID', `Job "${name}": ${limit} is ${value}; it must be a whole number from 1.`)
    }
  }
  return { name, schema, options, check: jsonCheck(schema, 'JOB_INVALID', `The input of job "${name}"`) }
}

/** Checked once at the definition: names become names of queues, metrics and rows. */
export function checkName(what: string, name: string): void {
  if (!/^[a-z][a-z0-9-]*(\.[a-z][a-z0-9-]*)*$/.test(name) || name.length > 100) {
    throw new RungError(
      'APP_INVALID',
      `"${name}" is no name for ${what === 'event' ? 'an event' : `a ${what}`}; write it like articles.send-digest.`,
    )
  }
}

export const defaults = {
  attempts: 10,
  backoffBaseMs: 1_000,
  backoffMaxMs: 600_000,
  timeoutMs: 60_000,
  concurrency: 10,
} as const

const priorities: Record<'high' | 'normal' | 'low', Priority> = { high: 0, normal: 1, low: 2 }

export function queueOf({ name, options }: Job): string {
  return options.queue ?? name
}

/** Makes the row of a new job. Pure but for the current scope. */
export function toItem<Schema extends TSchema>(
  job: Job<Schema>,
  input: Static<Schema>,
  { delay = 0, priority = 'normal', unique }: EnqueueOptions = {},
): NewItem & { ref: Ref } {
  return {
    queue: queueOf(job as never),
    name: job.name,
    payload: job.check(input).json,
    key: itemKey(job.options.key?.(input)),
    priority: priorities[priority],
    delayMs: toMs(delay),
    attemptsMax: job.options.attempts ?? defaults.attempts,
    unique: itemKey(unique),
    keep: job.options.keep ?? false,
    context: currentContext(),
    ref: {},
  }
}

/** What an index can hold as it is. */
const keyBytesMax = 500

/** A key as it is stored: `undefined` where it is empty; a long one, or one that Postgres could not store as text, by its digest. */
export function itemKey(key: string | number | undefined): string | undefined {
  if (key === undefined || key === '') return undefined
  const text = String(key)
  if (Buffer.byteLength(text) <= keyBytesMax && text.isWellFormed() && !text.includes('\0')) return text
  return `sha256:${createHash('sha256').update(text, 'utf16le').digest('base64url')}`
}

export function currentContext(): Context {
  const scope = currentScope()
  if (!scope) return {}
  const position = scope.position.size === 0 ? undefined : positionToJson(scope.position)
  return { traceparent: scope.traceparent, position }
}

/** `enqueue` of one transaction: items are collected, and go out together with the commit. */
export function enqueueIn(riding: Riding, queue: Queue, pushed: (queues: ReadonlySet<string>) => void): Enqueue {
  const items: NewItem[] = []
  return {
    enqueue(job, input, options) {
      if (items.length === 0) ridePushes(riding, queue, items, pushed)
      const item = toItem(job, input, options)
      items.push(item)
      return item.ref
    },
  }
}

/** All items of a transaction ride its commit; those who work are told after it. */
function ridePushes(
  riding: Riding,
  queue: Queue,
  items: readonly NewItem[],
  pushed: (queues: ReadonlySet<string>) => void,
): void {
  riding.ride(() => {
    const rides = queue.push(items)
    const last = rides.at(-1)!
    const told = new Set(items.filter(({ delayMs }) => delayMs === 0).map((item) => item.queue))
    return [
      ...rides.slice(0, -1),
      {
        ...last,
        committed(rows, at) {
          void last.committed?.(rows, at)
          if (told.size > 0) pushed(told)
        },
      },
    ]
  })
}

export function jobsOf(queue: Queue): Jobs {
  return {
    async find(id) {
      const [found] = await queue.list({ ids: [id], limit: 1 })
      if (!found) return undefined
      const { name, state, progress, error, failures, created_at: createdAt, ended_at: endedAt } = found
      return { id, name, state, progress, error, failures, createdAt, endedAt }
    },
    async cancel(id) {
      return (await queue.change([id], 'cancel')) > 0
    },
  }
}
