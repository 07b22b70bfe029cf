import { everyAlone, sleep, systemClock } from '../../kernel/clock.ts'
import { isRungError } from '../../kernel/errors.ts'
import { backoffMs } from '../../kernel/random.ts'
import type { Database } from '../data/contract.ts'
import { waker } from '../jobs/wake.ts'
import type { Lease } from '../upkeep/contract.ts'
import { joinChains, withPlaces } from './chains.ts'
import { announceEvents, tellEventTrouble } from './channels.ts'
import type { Broker, Chain, EventLog, Mark, Received } from './contract.ts'

/**
 * Brings the events of one database to the broker, and those of all databases to the groups of this one.
 *
 *   rung.event ──number──► n ──send──► broker ──receive──► take: deliveries and marks, in one commit ──► rung.job
 *        └───────────────────── read: what is missing ──────────────▲
 *
 * The broker is the short way, the log the sure one: whatever follows a mark with a gap, or does not come in time, is read from the log. So
 * it does no harm if the broker loses, repeats or reorders, or if two processes do this at once. One of them does, by a lease.
 */
export interface MeshOptions {
  database: Database
  log: EventLog
  /** Of all databases, by name; also its own. */
  logs: ReadonlyMap<string, EventLog>
  broker: Broker
  lease: Lease
  /** The name of this process, unique in the fleet. */
  holder: string
  /** Called when deliveries were added to these queues. */
  woken(queues: ReadonlySet<string>): void
}

export interface Mesh {
  /** There is something to send. Returns whether this process will do it. */
  wake(): boolean
  stop(): Promise<void>
}

/** A process that dies is replaced within this time and a tick. */
const leaseMs = 4_000
const tickMs = 1_000
const batchMax = 500
const pollMs = { min: 25, max: 1_000 }
/** If nothing comes from the broker for this long, the log is asked, ms. */
const lookMs = 1_000
const retryMs = { base: 50, max: 1_000 }

export function startMesh(options: MeshOptions): Mesh {
  const { lease, holder, database } = options
  let running: Running | undefined
  let heldUntil = Number.NEGATIVE_INFINITY

  async function tick(): Promise<void> {
    const now = systemClock.ticks()
    try {
      if (await lease.hold(holder, leaseMs)) heldUntil = now + leaseMs
    } catch (error) {
      tellEventTrouble({ database, event: 'read-failed', error })
    }
    if (heldUntil > systemClock.ticks()) running ??= new Running(options)
    else if (running) {
      const ending = running
      running = undefined
      await ending.stop()
    }
  }
  const endTicking = everyAlone(tickMs, tick)
  const first = tick()
  return {
    wake() {
      running?.wake()
      return running !== undefined
    },
    async stop() {
      await first
      await endTicking()
      await running?.stop()
      if (heldUntil > systemClock.ticks()) await lease.release(holder).catch(() => {}) // then it ends by itself
    },
  }
}

/** While the lease is held. */
class Running {
  readonly #options: MeshOptions
  readonly #ending = new AbortController()
  readonly #toSend = waker()
  readonly #toTake = waker()
  /** The log is to be read at once, without waiting for the broker. */
  #isOverdue = true
  #hasTrouble = false
  readonly #intake: Intake
  readonly #done: Promise<unknown>

  constructor(options: MeshOptions) {
    this.#options = options
    this.#intake = new Intake(options)
    this.#done = Promise.all([this.#relay(), this.#receive()])
  }

  wake(): void {
    this.#toSend.now()
  }

  async stop(): Promise<void> {
    this.#ending.abort()
    this.#toSend.now()
    this.#toTake.now()
    await this.#done
  }

  /** Numbers what was committed, and sends it. */
  async #relay(): Promise<void> {
    const { log, database, broker } = this.#options
    const { signal } = this.#ending
    let sent: number | undefined
    let waitMs = pollMs.min
    for (let failures = 0; !signal.aborted; ) {
      const calls = this.#toSend.count
      try {
        const numbered = await log.number(batchMax)
        if (numbered > 0) announceEvents('numbered')
        sent ??= (await log.state()).sent
        const before = sent
        if (broker.isUp) sent = await this.#send(sent)
        else this.#report(broker.trouble)
        // Without a broker the groups of this database read the log.
        if (numbered > 0 && this.#hasTrouble) this.#readNow()
        failures = 0
        if (numbered > 0 || sent > before) {
          waitMs = pollMs.min
          if (numbered === batchMax || sent > before) continue
        }
      } catch (error) {
        tellEventTrouble({ database, event: 'read-failed', error })
        sent = undefined
        await sleep(backoffMs(failures, retryMs.base, retryMs.max), signal).catch(() => {})
        failures += 1
        continue
      }
      if (this.#toSend.count > calls) waitMs = pollMs.min
      else {
        await this.#toSend.wait(waitMs)
        waitMs = Math.min(waitMs * 2, pollMs.max)
      }
    }
  }

  /** Sends what follows. Returns the last number that is stored. */
  async #send(after: number): Promise<number> {
    const { log, broker } = this.#options
    const chain = await log.read(after, batchMax)
    if (chain.events.length === 0) return after
    const { stored, trouble } = await broker.send(chain)
    this.#report(trouble)
    if (stored === 0) return after
    const { n } = chain.events[stored - 1]!
    announceEvents('stored')
    await log.sent(n)
    announceEvents('sent')
    return n
  }

  /** Tells of changes only. */
  #report(error: unknown): void {
    if (this.#hasTrouble === (error !== undefined)) return
    this.#hasTrouble = error !== undefined
    const event = !error ? 'broker-back' : isRungError(error, 'NATS_REFUSED') ? 'broker-full' : 'broker-failed'
    tellEventTrouble({ database: this.#options.database, event, error })
    if (error) this.#readNow()
  }

  #readNow(): void {
    this.#isOverdue = true
    this.#toTake.now()
  }

  async #receive(): Promise<void> {
    const { broker, database } = this.#options
    const { signal } = this.#ending
    const receiver = broker.receive(database.name, () => this.#toTake.now())
    let lookAt = Number.NEGATIVE_INFINITY
    let received = 0
    for (let failures = 0; !signal.aborted; ) {
      const calls = this.#toTake.count
      try {
        const messages = receiver.take(batchMax)
        if (messages.length > 0) await this.#intake.take(messages)
        received += messages.length
        const now = systemClock.ticks()
        if (this.#isOverdue || now >= lookAt) {
          const isIdle = this.#isOverdue || received === 0
          this.#isOverdue = false
          await this.#intake.look(isIdle)
          received = 0
          lookAt = systemClock.ticks() + lookMs
        }
        failures = 0
        if (messages.length === 0 && this.#toTake.count === calls)
          await this.#toTake.wait(Math.max(0, lookAt - systemClock.ticks()))
      } catch (error) {
        tellEventTrouble({ database, event: 'take-failed', error })
        await sleep(backoffMs(failures, retryMs.base, retryMs.max), signal).catch(() => {})
        failures += 1
        this.#isOverdue = true // what was not taken comes again late: the log has it at once
      }
    }
    await receiver.close()
  }
}

type IntakeOptions = Pick<MeshOptions, 'log' | 'logs' | 'database' | 'woken'>

/** Takes events for the groups of one database. */
class Intake {
  readonly #options: IntakeOptions
  /** The number up to which all subscriptions have a log's events. */
  readonly #reached = new Map<string, number>()

  constructor(options: IntakeOptions) {
    this.#options = options
  }

  /** Takes what the broker brought, and whatever is missing in front of it, then tells the broker. */
  async take(messages: readonly Received[]): Promise<void> {
    announceEvents('received')
    const bySource = Map.groupBy(messages, ({ chain }) => chain.source)
    for (const [source, received] of bySource) {
      if (!this.#options.logs.has(source)) continue // of a database that is no part of this app any more
      for (const chain of joinChains(received.map((one) => one.chain))) {
        if (chain.after > (this.#reached.get(source) ?? Number.NEGATIVE_INFINITY)) await this.#read(source)
        await this.#add(chain)
      }
    }
    announceEvents('taken')
    for (const { ack } of messages) ack()
    announceEvents('acknowledged')
  }

  /** Reads the logs from the marks on: with `isIdle` to their ends, otherwise only for subscriptions that have fallen behind the others. */
  async look(isIdle: boolean): Promise<void> {
    const lowest = lowestOf(await this.#options.log.marks())
    for (const [source, n] of lowest) {
      if (isIdle || n < (this.#reached.get(source) ?? Number.NEGATIVE_INFINITY)) await this.#read(source, n)
    }
  }

  async #read(source: string, from?: number): Promise<void> {
    const first = from ?? lowestOf(await this.#options.log.marks()).get(source)
    if (first === undefined) return // nobody subscribes to anything of it
    let after: number = first
    for (;;) {
      const chain: Chain | undefined = await this.#options.logs.get(source)?.read(after, batchMax)
      if (!chain || chain.events.length === 0) break
      await this.#add(chain)
      after = chain.events.at(-1)!.n
    }
    this.#reached.set(source, after)
  }

  async #add(chain: Chain): Promise<void> {
    const { log, database, woken } = this.#options
    const queues = await log.take(chain.source === database.name ? chain : withPlaces(chain))
    if (queues.size > 0) woken(queues)
    const reached = this.#reached.get(chain.source)
    if (reached !== undefined && reached >= chain.after) {
      this.#reached.set(chain.source, Math.max(reached, chain.events.at(-1)!.n))
    }
  }
}

function lowestOf(marks: readonly Mark[]): Map<string, number> {
  const lowest = new Map<string, number>()
  for (const { source, n } of marks) lowest.set(source, Math.min(n, lowest.get(source) ?? Number.POSITIVE_INFINITY))
  return lowest
}

/**
 * Takes everything that waits in the logs, without a broker: what was published while there was one, for a fleet that has none any more.
 * It is cheap when there is nothing.
 */
export async function drainLogs(options: IntakeOptions): Promise<void> {
  while ((await options.log.number(batchMax)) > 0);
  await new Intake(options).look(true)
}
