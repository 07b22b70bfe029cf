import { RungError } from '../kernel/errors.ts'
import { formatMs } from '../kernel/units.ts'
import type { EventLog, Outbox } from '../primitives/events/contract.ts'
import type { Queue } from '../primitives/jobs/contract.ts'
import type { Filter, ItemState, Listed, QueueCount } from '../primitives/jobs/items.ts'
import { openQueues } from '../runtime/wire.ts'
import {
  type Command,
  type Input,
  numberOption,
  type Options,
  type Result,
  result,
  settingOptions,
  unknownVerb,
} from './command.ts'
import { withOpenDatabase } from './database.ts'
import { cut, tableLines } from './table.ts'

/** What differs between `rung jobs` and `rung events`. */
export interface QueueKind {
  /** `job` or `delivery`. */
  noun: string
  ofEvents: boolean
  /** From the stored name of a queue to the one that people use, and back. */
  label(queue: string): string
  queueOf(label: string): string
}

export const queueOptions: Options = {
  ...settingOptions('process.dataDir'),
  queue: { type: 'string', value: 'name', help: 'Only this queue.' },
  state: { type: 'string', value: 'state', help: 'waiting, delayed, running, dead, done or cancelled.' },
  limit: { type: 'string', value: 'number', help: 'At most this many, newest first (20).' },
  dead: { type: 'boolean', help: 'With retry: all that are dead, of --queue where it is given.' },
}

const states: readonly string[] = ['waiting', 'delayed', 'running', 'dead', 'done', 'cancelled'] satisfies ItemState[]

export function withQueues<T>(
  input: Input,
  fn: (queue: Queue, outbox: Outbox, log: EventLog) => Promise<T>,
): Promise<T> {
  return withOpenDatabase(input, ({ database }) => {
    const { queue, outbox, log } = openQueues(database)
    return fn(queue, outbox, log)
  })
}

/** `list`, `show`, `retry` and `cancel`. */
export async function runQueueVerb(command: Command, input: Input, queue: Queue, kind: QueueKind): Promise<Result> {
  const { out, positionals } = input
  const [verb, ...words] = positionals
  if (verb === 'list') {
    const limit = numberOption(input, 'limit', { max: 10_000, otherwise: 20 })
    const items = await queue.list({ ...filterOf(input, kind), limit })
    return result(items, () => {
      if (items.length === 0) out.line(`No ${kind.noun} is here.`)
      for (const item of items) for (const line of itemLines(item, kind)) out.line(line)
    })
  }
  if (verb === 'show') {
    const ids = idsOf(words)
    const items = await queue.list({ ids, limit: ids.length })
    const missing = ids.filter((id) => !items.some((item) => item.id === id))
    if (missing.length > 0) out.note(`Not found; ended ones are not kept for long: ${missing.join(', ')}`)
    const print = () => {
      for (const item of items) printItem(item, out)
    }
    return result(items, print, missing.length === 0 ? 0 : 1)
  }
  if (verb !== 'retry' && verb !== 'cancel') return unknownVerb(command, verb!)
  const all = verb === 'retry' && input.values.dead === true
  if (all && words.length > 0) throw new RungError('COMMAND_INVALID', 'Give either ids or --dead, not both.')
  const changed = all ? await retryDead(input, queue, kind) : await queue.change(idsOf(words), verb)
  const done = verb === 'retry' ? 'will run again now' : 'cancelled, or told to end'
  return result({ changed }, () => out.line(`${changed} ${done}.`), all || changed > 0 ? 0 : 1)
}

async function retryDead(input: Input, queue: Queue, kind: QueueKind): Promise<number> {
  const filter: Filter = { ...filterOf(input, kind), state: 'dead', limit: 1_000 }
  const next = async () => (await queue.list(filter)).map(({ id }) => id)
  let changed = 0
  for (let ids = await next(); ids.length > 0; ids = await next()) changed += await queue.change(ids, 'retry')
  return changed
}

/** The head and a row for each queue, in 80 columns. */
export function countLines(head: string, counts: readonly QueueCount[], kind: QueueKind): string[] {
  const columns = ['waiting', 'delayed', 'running', 'dead'] as const
  const rows = counts.map((count) => [
    kind.label(count.queue),
    ...columns.map((column) => String(count[column])),
    count.waiting === 0 ? '' : formatMs(count.oldestWaitMs),
  ])
  return tableLines([33, -7, -7, -7, -7, 8], [[head, ...columns, 'oldest'], ...rows])
}

function itemLines(item: Listed, kind: QueueKind): string[] {
  const { failures, attempts_max: attemptsMax, error, progress, created_at: created, key } = item
  const details = [created.toISOString().slice(0, 19)]
  if (key !== null) details.push(`key ${key}`)
  if (failures > 0) details.push(`failed ${failures} of ${attemptsMax}`)
  if (progress) details.push(`${Math.round(progress.share * 100)} %${progress.note ? ` ${progress.note}` : ''}`)
  if (error) details.push(error.replace(/\s+/g, ' '))
  const [first] = tableLines([-8, 9, 28, 28], [[String(item.id), item.state, item.name, kind.label(item.queue)]])
  return [first!, `${' '.repeat(10)}${cut(details.join('  '), 70)}`]
}

function printItem(item: Listed, out: Input['out']): void {
  for (const [name, value] of Object.entries(item)) {
    if (value === null) continue
    const isPlain = typeof value !== 'object' || value instanceof Date
    const text = value instanceof Date ? value.toISOString() : isPlain ? value : JSON.stringify(value)
    out.line(`${name.padEnd(13)} ${text}`)
  }
  out.line()
}

function filterOf({ values: { state, queue } }: Input, kind: QueueKind): Omit<Filter, 'limit'> {
  if (typeof state === 'string' && !states.includes(state)) {
    throw new RungError('COMMAND_INVALID', `--state is "${state}"; it must be one of ${states.join(', ')}.`)
  }
  const queues = typeof queue === 'string' ? [kind.queueOf(queue)] : undefined
  return { queues, ofEvents: kind.ofEvents, state: state as ItemState | undefined }
}

function idsOf(words: readonly string[]): number[] {
  const wrong = words.find((word) => !/^\d{1,15}$/.test(word))
  if (wrong !== undefined) throw new RungError('COMMAND_INVALID', `"${wrong}" is not an id. "list" shows the ids.`)
  if (words.length === 0) throw new RungError('COMMAND_INVALID', 'Give at least one id. "list" shows the ids.')
  return words.map(Number)
}
