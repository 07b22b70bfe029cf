import type { Static, TSchema } from 'typebox'
import { RungError } from '../../kernel/errors.ts'
import { type AsJson, jsonCheck } from '../../kernel/schema.ts'
import type { Riding } from '../data/rides.ts'
import type { Item } from '../jobs/items.ts'
import { checkName, currentContext, defaults, itemKey, type RetryOptions } from '../jobs/jobs.ts'
import type { Handler, Line } from '../jobs/worker.ts'
import { type NewEvent, type Outbox, queueOfGroup, type Subscription } from './contract.ts'

/** Something that has happened, for whoever wants to know. Inert; its name is for ever: rows with it may wait anywhere. */
export interface Event<Schema extends TSchema = TSchema> {
  readonly name: string
  readonly schema: Schema
  readonly check: (payload: unknown) => AsJson
}

export function defineEvent<Schema extends TSchema>(name: string, schema: Schema): Event<Schema> {
  checkName('event', name)
  return { name, schema, check: jsonCheck(schema, 'EVENT_INVALID', `Event "${name}"`) }
}

export interface PublishOptions {
  /** Events with the same key (an account, an article) reach each group one at a time, in the order of their commits. */
  key?: string | number
}

/** Part of a transaction's handle. */
export interface Publish {
  /** Tells every group that listens, after this transaction has committed; nobody when it does not. */
  publish<Schema extends TSchema>(event: Event<Schema>, payload: Static<Schema>, options?: PublishOptions): void
}

/** What a consumer gets. */
export interface Delivered<Schema extends TSchema = TSchema> {
  /** The delivery's number: the same at every try. */
  readonly id: number
  readonly name: string
  readonly payload: Static<Schema>
  readonly key: string | undefined
  /** 1 for the first try. */
  readonly attempt: number
}

export interface ConsumerOptions extends RetryOptions {
  /**
   * Consumers of one group share its deliveries, over all processes; each group gets every event. Default: the name of
   * the module. A group's name is for ever: what waits for it lies under it.
   */
  group?: string
  /** Deliveries that a group handles at once in one process. Default 10. */
  concurrency?: number
  /**
   * Where it begins when it is new: with what is published from now on, or with the oldest event that is kept. Where no broker is used
   * none is kept. Default 'now'.
   */
  from?: 'now' | 'start'
}

/** `publish` of one transaction: events are collected, and go out together with the commit. */
export function publishIn(riding: Riding, outbox: Outbox, published: (queues: ReadonlySet<string>) => void): Publish {
  const events: NewEvent[] = []
  return {
    publish(event, payload, { key } = {}) {
      if (events.length === 0) riding.ride(() => [outbox.publish(events, published)])
      events.push({
        name: event.name,
        payload: event.check(payload).json,
        key: itemKey(key),
        context: currentContext(),
      })
    },
  }
}

export function toDelivered({ id, name, payload, key, failures }: Item): Delivered {
  return { id, name, payload: payload as never, key: key ?? undefined, attempt: failures + 1 }
}

export interface Consumed {
  event: Event
  group: string
  /** Whose data the handler writes. */
  module: string
  options: ConsumerOptions
  handler: Handler
}

export function subscriptionsOf(consumed: readonly Consumed[]): Subscription[] {
  return consumed.map(({ event, group, options }) => ({
    event: event.name,
    group,
    attemptsMax: options.attempts ?? defaults.attempts,
    fromStart: options.from === 'start',
  }))
}

/**
 * A queue for each group.
 * @throws APP_INVALID when a group handles an event twice
 */
export function groupLines(consumed: readonly Consumed[]): Line[] {
  const groups = Map.groupBy(consumed, ({ group }) => group)
  return [...groups].map(([group, members]) => {
    const handlers = new Map<string, Handler>()
    for (const { event, handler } of members) {
      if (handlers.has(event.name)) {
        throw new RungError(
          'APP_INVALID',
          `Group "${group}" handles "${event.name}" twice. Give one of them a group of its own.`,
        )
      }
      handlers.set(event.name, handler)
    }
    const concurrency = Math.max(...members.map(({ options }) => options.concurrency ?? defaults.concurrency))
    return { queue: queueOfGroup(group), concurrency, ordered: true, handlers }
  })
}
