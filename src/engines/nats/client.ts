import type { ConsumerMessages, JetStreamClient, JetStreamManager } from '@nats-io/jetstream'
import type { ConnectionOptions, NatsConnection } from '@nats-io/transport-node'
import { after, sleep } from '../../kernel/clock.ts'
import { messageOf, RungError } from '../../kernel/errors.ts'
import { parseNatsUrls } from '../../topology/urls.ts'

/** The only importer of `@nats-io/*`, which are loaded with the first connection. */

/**
 * A connection that fails fast: if no server answers, every call fails at once, and if it hangs, within `timeoutMs`. What was published
 * may have been stored although the call failed. Calls reject with NATS_UNAVAILABLE (try again later) or NATS_REFUSED.
 */
export interface NatsClient {
  readonly isUp: boolean
  /** Why the connection is down, if it is. */
  readonly trouble: RungError | undefined
  /** Most bytes of one message. */
  readonly bytesMax: number
  /** Creates the stream, or changes its limits to these. */
  ensureStream(stream: StreamSettings): Promise<void>
  /** Resolves when the stream has stored it. The same `id` within the window of duplicates is stored once. */
  publish(subject: string, data: string, id: string): Promise<void>
  /** Takes what the stream has for this durable consumer, which is created if it does not exist, until it is closed or fails. */
  consume(consumer: ConsumerSettings, onMessage: (message: StoredMessage) => void): Promise<Consumption>
  /** Calls the listener whenever the connection comes or goes. The returned function ends this. */
  onChange(listener: (isUp: boolean) => void): () => void
  close(): Promise<void>
}

export interface StreamSettings {
  name: string
  subjects: string[]
  bytesMax: number
  ageMsMax: number
  replicas: number
}

export interface ConsumerSettings {
  stream: string
  name: string
  /** One: servers before 2.10 have no more. */
  subject: string
  /** A message that is not acknowledged within this time is delivered again, ms. */
  ackWaitMs: number
  /** So many may be delivered and not yet acknowledged. */
  pendingMax: number
}

export interface StoredMessage {
  readonly data: string
  ack(): void
}

export interface Consumption {
  /** Resolves when nothing comes any more, with the reason unless it was closed. */
  readonly ended: Promise<RungError | undefined>
  close(): Promise<void>
}

export interface NatsClientOptions {
  /** `nats://user:password@host:4222`, `tls://…`; the nodes of a cluster are separated by commas. */
  url: string
  /** The name of the connection, for people. */
  name: string
  /** Default 2,000. */
  timeoutMs?: number
}

/** A server that hangs is noticed within two of these, ms. */
const pingMs = 1_000
const reconnectMs = 250
const duplicatesMs = 120_000
const nanos = (ms: number) => ms * 1_000_000

/**
 * Connects, and returns after the first attempt, whatever its outcome.
 * @throws CONFIG_INVALID for a URL of another form
 */
export async function openNats({ url, name, timeoutMs = 2_000 }: NatsClientOptions): Promise<NatsClient> {
  const options = { ...optionsOf(url), name, timeout: timeoutMs }
  const listeners = new Set<(isUp: boolean) => void>()
  const closing = new AbortController()
  let opened: Opened | undefined
  let isUp = false
  let trouble: RungError | undefined

  function change(now: boolean, why?: unknown): void {
    trouble = now ? undefined : why === undefined ? trouble : toNatsError(why)
    if (isUp === now) return
    isUp = now
    for (const listener of listeners) listener(now)
  }

  async function connectOnce(): Promise<void> {
    opened = await open(options)
    change(true)
    void follow(opened.connection)
  }

  async function follow(connection: NatsConnection): Promise<void> {
    for await (const status of connection.status()) {
      if (status.type === 'reconnect') change(true)
      if (status.type === 'disconnect' || status.type === 'staleConnection') change(false, 'the connection was lost')
      if (status.type === 'error') trouble ??= toNatsError(status.error)
    }
    change(false, 'the connection was closed')
    opened = undefined
    if (!closing.signal.aborted) await keepConnecting()
  }

  async function keepConnecting(): Promise<void> {
    while (!closing.signal.aborted && !opened) {
      await sleep(reconnectMs, closing.signal).catch(() => {})
      if (!closing.signal.aborted) await connectOnce().catch((error) => change(false, error))
    }
  }

  await connectOnce().catch((error) => {
    change(false, error)
    void keepConnecting()
  })

  function ready(): Opened {
    if (!opened || !isUp) throw trouble ?? unavailable('it is not connected')
    return opened
  }

  async function send<T>(work: (at: Opened) => Promise<T>): Promise<T> {
    try {
      return await work(ready())
    } catch (error) {
      throw toNatsError(error)
    }
  }

  return {
    get isUp() {
      return isUp
    },
    get trouble() {
      return isUp ? undefined : (trouble ?? unavailable('it is not connected'))
    },
    get bytesMax() {
      return opened?.connection.info?.max_payload ?? 0
    },
    ensureStream: (stream) => send(({ manager }) => ensureStream(manager, stream)),
    publish: (subject, data, id) =>
      send(
        async ({ stream }) => void (await stream.publish(subject, data, { msgID: id, timeout: timeoutMs, retries: 1 })),
      ),
    consume: (consumer, onMessage) => send((at) => consume(at, consumer, onMessage)),
    onChange(listener) {
      listeners.add(listener)
      return () => listeners.delete(listener)
    },
    async close() {
      closing.abort()
      // A server that hangs answers nothing: closing politely would wait for it.
      await opened?.connection.close().catch(() => {})
    },
  }
}

interface Opened {
  connection: NatsConnection
  stream: JetStreamClient
  manager: JetStreamManager
}

async function open(options: ConnectionOptions): Promise<Opened> {
  const [{ connect }, { jetstream, jetstreamManager }] = await Promise.all([
    import('@nats-io/transport-node'),
    import('@nats-io/jetstream'),
  ])
  const connection = await connect({
    ...options,
    pingInterval: pingMs,
    maxPingOut: 1,
    maxReconnectAttempts: -1,
    reconnectTimeWait: reconnectMs,
    reconnectJitter: reconnectMs,
    noAsyncTraces: true, // a trace for each request costs more than the request
  })
  const { timeout } = options
  const manager = await jetstreamManager(connection, { checkAPI: false, timeout: timeout! })
  return { connection, stream: jetstream(connection, { timeout: timeout! }), manager }
}

function optionsOf(url: string): ConnectionOptions {
  const found = parseNatsUrls(url)
  if (!found) {
    throw new RungError(
      'CONFIG_INVALID',
      'The URL of NATS has the wrong form. Write it like nats://user:password@host:4222, or tls:// for TLS.',
    )
  }
  const { servers, user, password, tls } = found
  return {
    servers: [...servers],
    ...(user !== undefined && { user }),
    ...(password !== undefined && { pass: password }),
    ...(tls && { tls: {} }),
  }
}

/** Returns whether the server answers and accepts the password. */
export async function natsAnswers(url: string, withinMs: number): Promise<boolean> {
  const { connect } = await import('@nats-io/transport-node')
  const { promise, resolve } = Promise.withResolvers<false>()
  const forget = after(withinMs, () => resolve(false))
  const asked = connect({ ...optionsOf(url), reconnect: false, timeout: withinMs, noAsyncTraces: true }).then(
    async (connection) => {
      await connection.flush()
      await connection.close()
      return true
    },
    () => false as const,
  )
  return Promise.race([asked.catch(() => false), promise]).finally(forget)
}

/** Deletes all streams with their consumers. Returns how many there were. */
export async function deleteStreams(url: string): Promise<number> {
  const { connection, manager } = await open({ ...optionsOf(url), name: 'rung-chaos', timeout: 5_000 })
  try {
    let deleted = 0
    for await (const { config } of manager.streams.list()) deleted += Number(await manager.streams.delete(config.name))
    return deleted
  } finally {
    await connection.close()
  }
}

async function ensureStream(manager: JetStreamManager, stream: StreamSettings): Promise<void> {
  const settings = {
    subjects: stream.subjects,
    retention: 'limits' as const,
    discard: 'new' as const, // what was not consumed is kept: the publisher hears that the stream is full
    storage: 'file' as const,
    max_bytes: stream.bytesMax,
    max_age: nanos(stream.ageMsMax),
    duplicate_window: nanos(Math.min(duplicatesMs, stream.ageMsMax)),
    num_replicas: stream.replicas,
  }
  try {
    await manager.streams.add({ name: stream.name, ...settings })
  } catch (error) {
    if (codeOf(error) !== streamExists) throw error
    const { retention: _, storage: _storage, ...changeable } = settings
    await manager.streams.update(stream.name, changeable)
  }
}

/** Codes of the JetStream API, from errors.json of the server. */
const streamExists = 10_058
const consumerNotFound = 10_014
const refusals = new Set<number | undefined>([10_047, 10_077]) // the account or the stream is full: not for this moment only

async function consume(
  { stream, manager }: Opened,
  { stream: of, name, subject, ackWaitMs, pendingMax }: ConsumerSettings,
  onMessage: (message: StoredMessage) => void,
): Promise<Consumption> {
  await manager.consumers.info(of, name).catch(async (error) => {
    if (codeOf(error) !== consumerNotFound) throw error
    await manager.consumers.add(of, {
      durable_name: name,
      ack_policy: 'explicit',
      ack_wait: nanos(ackWaitMs),
      max_ack_pending: pendingMax,
      deliver_policy: 'all',
      filter_subject: subject,
    })
  })
  const messages = await (await stream.consumers.get(of, name)).consume({
    max_messages: 1_000,
    expires: 30_000,
    idle_heartbeat: 1_000,
    abort_on_missing_resource: true,
    callback: (message) => onMessage({ data: message.string(), ack: () => message.ack() }),
  })
  let isClosed = false
  const close = async () => {
    isClosed = true
    await messages.close().catch(() => {})
  }
  void endOnSilence(messages, close)
  return {
    ended: messages.closed().then((error) => {
      if (error) return toNatsError(error)
      return isClosed ? undefined : unavailable('the consumer ended')
    }),
    close,
  }
}

/** Without heartbeats the consumer, or its stream, may be gone: it is looked up again. */
async function endOnSilence(messages: ConsumerMessages, close: () => Promise<void>): Promise<void> {
  for await (const { type } of messages.status()) {
    if (type === 'heartbeats_missed' || type === 'consumer_deleted' || type === 'stream_not_found') await close()
  }
}

function codeOf(error: unknown): number | undefined {
  return (error as { code?: number } | undefined)?.code
}

/** Returns an error with a new cause: those of the library may contain a message. */
export function toNatsError(error: unknown): RungError {
  if (error instanceof RungError) return error
  const reason = typeof error === 'string' ? error : messageOf(error)
  const cause = typeof error === 'string' ? undefined : new Error(reason)
  if (refusals.has(codeOf(error))) {
    return new RungError('NATS_REFUSED', `NATS refused: ${reason.replace(/\.$/, '')}.`, { cause })
  }
  return unavailable(reason, cause)
}

function unavailable(why: string, cause?: Error): RungError {
  return new RungError('NATS_UNAVAILABLE', `NATS is unavailable: ${why.replace(/\.$/, '')}.`, { cause })
}
