import { RungError } from '../kernel/errors.ts'
import { formatMs } from '../kernel/units.ts'
import type { Outbox } from '../primitives/events/contract.ts'
import type { Queue } from '../primitives/jobs/contract.ts'
import type { Filter, ItemState, Listed, QueueCount } from '../primitives/jobs/items.ts'
import { createLog } from '../runtime/log.ts'
import { openDatabase, openQueues, startDatabaseServer } from '../runtime/wire.ts'
import type { Input, Options } from './command.ts'
import { existingData, toolBindings } from './input-settings.ts'

/** What `rung jobs` and `rung events` share: both look into queues. */
export interface QueueView {
  /** `job` or `delivery`. */
  noun: string
  ofEvents: boolean
  /** From the name of a queue to the one that people see, and back. */
  label(queue: string): string
  queueOf(label: string): string
}

export const queueOptions: Options = {
  queue: { type: 'string', value: 'name', help: 'Only this queue.' },
  state: { type: 'string', value: 'state', help: 'waiting, delayed, running, dead, done or cancelled.' },
  limit: { type: 'string', value: 'number', help: 'At most this many, newest first (20).' },
  dead: { type: 'boolean', help: 'With retry: all dead ones, of the queue where one is named.' },
}

const states: readonly string[] = ['waiting', 'delayed', 'running', 'dead', 'done', 'cancelled'] satisfies ItemState[]

/** Opens the queues of the app's database, whether the app runs or not. */
export async function withQueues<T>(
  input: Input,
  fn: (queues: { queue: Queue; outbox: Outbox }) => Promise<T>,
): Promise<T> {
  const bindings = existingData(await toolBindings(input), input.cwd)
  const server = await startDatabaseServer(bindings, createLog('rung', 'silent'), 'attach')
  const database = openDatabase(bindings.data, server.connection)
  try {
    return await fn(openQueues(database))
  } finally {
    await database.close()
    await server.stop()
  }
}

/** `list`, `show`, `retry`, `cancel`. */
export async function runQueueVerb(input: Input, queue: Queue, view: QueueView): Promise<number> {
  const [verb, ...rest] = input.positionals
  if (verb === 'list') return list(input, queue, view)
  if (verb === 'show') return show(input, queue, idsOf(rest))
  if (verb === 'retry' || verb === 'cancel') return change(input, queue, view, verb, rest)
  throw new RungError('CONFIG_INVALID', `There is no "${verb}" here. Use list, show, retry or cancel.`)
}

async function list({ values, json, out }: Input, queue: Queue, view: QueueView): Promise<number> {
  const items = await queue.list({ ...filterOf(values, view), limit: limitOf(values.limit) })
  if (json) {
    out.json(items)
    return 0
  }
  if (items.length === 0) out.line(`No ${view.noun} is here.`)
  for (const item of items) {
    out.line(
      `${String(item.id).padStart(8)}  ${item.state.padEnd(9)} ${item.name.padEnd(28)} ${view.label(item.queue)}`,
    )
    out.line(`          ${detailOf(item)}`)
  }
  return 0
}

function detailOf({ failures, attempts_max: most, error, progress, created_at: created, key }: Listed): string {
  const parts = [created.toISOString().slice(0, 19)]
  if (key !== null) parts.push(`key ${key}`)
  if (failures > 0) parts.push(`failed ${failures} of ${most}`)
  if (progress) parts.push(`${Math.round(progress.share * 100)} %${progress.note ? ` ${progress.note}` : ''}`)
  if (error) parts.push(error.replace(/\s+/g, ' '))
  const text = parts.join('  ')
  return text.length > 70 ? `${text.slice(0, 69)}…` : text
}

async function show({ json, out }: Input, queue: Queue, ids: readonly number[]): Promise<number> {
  const items = await queue.list({ ids, limit: ids.length })
  if (json) out.json(items)
  else {
    for (const item of items) {
      for (const [name, value] of Object.entries(item)) {
        if (value === null) continue
        const text =
          value instanceof Date ? value.toISOString() : typeof value === 'object' ? JSON.stringify(value) : value
        out.line(`${name.padEnd(13)} ${text}`)
      }
      out.line()
    }
  }
  const missing = ids.filter((id) => !items.some((item) => item.id === id))
  if (missing.length > 0) out.note(`Not here (ended and not kept, or never there): ${missing.join(', ')}`)
  return missing.length === 0 ? 0 : 1
}

async function change(
  { values, json, out }: Input,
  queue: Queue,
  view: QueueView,
  how: 'retry' | 'cancel',
  rest: readonly string[],
): Promise<number> {
  const all = how === 'retry' && values.dead === true
  if (all && rest.length > 0) throw new RungError('CONFIG_INVALID', 'Give numbers, or --dead, not both.')
  let changed = 0
  if (all) {
    const filter = { ...filterOf({ ...values, state: 'dead' }, view), limit: 1_000 }
    for (let found = await queue.list(filter); found.length > 0; found = await queue.list(filter)) {
      changed += await queue.change(
        found.map(({ id }) => id),
        how,
      )
    }
  } else changed = await queue.change(idsOf(rest), how)
  if (json) out.json({ changed })
  else out.line(`${changed} ${how === 'retry' ? 'to be tried again now' : 'cancelled, or told so'}.`)
  return all || changed > 0 ? 0 : 1
}

function filterOf(values: Input['values'], view: QueueView): Omit<Filter, 'limit'> {
  const { state } = values
  if (typeof state === 'string' && !states.includes(state)) {
    throw new RungError('CONFIG_INVALID', `--state is "${state}"; it must be one of ${states.join(', ')}.`)
  }
  const queues = typeof values.queue === 'string' ? [view.queueOf(values.queue)] : undefined
  return { queues, ofEvents: view.ofEvents, state: state as ItemState | undefined }
}

function idsOf(texts: readonly string[]): number[] {
  if (texts.length === 0) throw new RungError('CONFIG_INVALID', 'Name at least one by its number; see: list')
  return texts.map((text) => {
    if (!/^\d{1,15}$/.test(text)) throw new RungError('CONFIG_INVALID', `"${text}" is not a number of one; see: list`)
    return Number(text)
  })
}

function limitOf(value: Input['values'][string]): number {
  const limit = value === undefined ? 20 : Number(value)
  if (Number.isInteger(limit) && limit >= 1 && limit <= 10_000) return limit
  throw new RungError('CONFIG_INVALID', '--limit must be a whole number from 1 to 10000.')
}

/** 80 columns. */
export function countLines(first: string, counts: readonly QueueCount[], view: QueueView): string[] {
  const heads = ['waiting', 'delayed', 'running', 'dead'] as const
  return [
    `${first.padEnd(34)}${heads.map((head) => head.padStart(9)).join('')}  oldest`,
    ...counts.map((count) => {
      const label = view.label(count.queue)
      const name = label.length > 33 ? `${label.slice(0, 32)}…` : label
      const oldest = count.waiting === 0 ? '' : formatMs(count.oldestWaitMs)
      return `${name.padEnd(34)}${heads.map((head) => String(count[head]).padStart(9)).join('')}  ${oldest}`.trimEnd()
    }),
  ]
}
