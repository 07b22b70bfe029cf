import type { Ride } from '../data/rides.ts'
import type { Context } from '../jobs/items.ts'

/**
 * What events ask of an adapter: from a published event to a delivery for each group that has subscribed to it. A delivery
 * is an item of the queue named after its group; how it is worked off is the jobs' contract.
 *
 * What must hold on every adapter:
 * - when the publishing transaction has committed, every group that was subscribed before gets a delivery, once; when it does
 *   not, none does. `table` adds it in that commit, `EventLog` afterwards;
 * - the deliveries of one key come to a group in the order in which they were published;
 * - a delivery stays until its group has handled it, also when no process of that group runs.
 */
export interface Outbox {
  /** `published` is called after the commit, with the queues in which there is work now. */
  publish(events: readonly NewEvent[], published: (queues: ReadonlySet<string>) => void): Ride
  /** Called before this process publishes anything, and whenever a process of the group starts. */
  subscribe(subscriptions: readonly Subscription[]): Promise<void>
  /** Ends a group's subscriptions and removes what waits for it. Returns how many deliveries that were. */
  drop(group: string): Promise<number>
  subscriptions(): Promise<SubscriptionRow[]>
}

/**
 * An outbox whose events are kept in a numbered log, from which others take them: over a broker, or by reading it.
 *
 * What must hold on every adapter:
 * - numbers rise in the order in which commits became visible; once one was seen, no lower one appears;
 * - a subscription gets each event once, in the order of the numbers, whoever brings it, and how often: its mark moves in the commit
 *   that adds the deliveries, and only over events that follow it without a gap.
 */
export interface EventLog {
  /** Numbers at most `max` committed events that have no number yet. Returns how many it has numbered. */
  number(max: number): Promise<number>
  /** Returns what follows a number, at most `max` events. */
  read(after: number, max: number): Promise<Chain>
  /** Returns how far the log goes, and how much of it the broker has. */
  state(): Promise<LogState>
  /** Returns how many events follow a number. */
  count(after: number): Promise<number>
  /** Notes that the broker has stored everything up to this number. */
  sent(n: number): Promise<void>
  /** Adds deliveries to the queues of this database, see `Chain`. Returns the queues that have got some. */
  take(chain: Chain): Promise<ReadonlySet<string>>
  /** Returns how far the subscriptions of this database have come in each log. */
  marks(): Promise<Mark[]>
  /** Lets subscriptions begin in the log of another database. It changes nothing for those that have begun. */
  begin(source: string, subscriptions: readonly Subscription[], at: LogState): Promise<void>
  /** Forgets events up to this number that are older than this. Returns how many. */
  prune(upTo: number, olderThanMs: number, max: number): Promise<number>
}

/** Events that follow `after` in the log of a database, without a gap. */
export interface Chain {
  /** The name of the database. */
  source: string
  /** What the log's numbers belong to: another word after the server was started again, as after a restore, or replaced by a replica. */
  history: string
  /** A position of that database which covers the commits of these events. */
  place: string
  after: number
  events: readonly LoggedEvent[]
}

export interface LoggedEvent extends NewEvent {
  n: number
}

export interface LogState {
  source: string
  /** The first number that is kept, or one more than the last one. */
  first: number
  last: number
  sent: number
  /** How many events have no number yet, and how many have not reached the broker. */
  unnumbered: number
  unsent: number
  /** How long the oldest of these waits, ms. */
  oldestMs: number
}

export interface Mark {
  source: string
  event: string
  group: string
  n: number
}

/**
 * What carries events from the logs to the databases of their groups. It may lose what it has, bring it twice or in another order: what is
 * missing is read from the log.
 */
export interface Broker {
  readonly isUp: boolean
  /** Why it cannot be used, if that is so. */
  readonly trouble: Error | undefined
  /** Stores the events in their order. Returns how many of the first are stored, and what happened to the next one. */
  send(chain: Chain): Promise<{ stored: number; trouble?: unknown }>
  /** Receives all events for one database, until it is closed. `arrived` is called when there is something to take. */
  receive(database: string, arrived: () => void): Receiver
  close(): Promise<void>
}

export interface Receiver {
  /** Returns up to `max` messages in the order of their arrival. */
  take(max: number): Received[]
  close(): Promise<void>
}

/** A chain of one event. */
export interface Received {
  chain: Chain
  /** Tells the broker that it is done with. */
  ack(): void
}

export interface NewEvent {
  name: string
  /** JSON. */
  payload: string
  key: string | undefined
  context: Context
}

export interface Subscription {
  event: string
  group: string
  attemptsMax: number
  /** Whether it begins with the oldest event that is kept. Only a log keeps any. */
  fromStart?: boolean
}

export interface SubscriptionRow {
  event: string
  group: string
  /** When a process of the group last started. */
  seenAt: Date
}

const prefix = 'event:'

/** The queue of a group's deliveries. */
export function queueOfGroup(group: string): string {
  return prefix + group
}

export function isGroupQueue(queue: string): boolean {
  return queue.startsWith(prefix)
}

export function groupOf(queue: string): string {
  return queue.slice(prefix.length)
}

/** Stands among queues for the log itself: somebody has to number and send what was published. */
export const logQueue = 'event'
