import { createHash } from 'node:crypto'
import type { Redis, RedisOptions } from 'ioredis'
import { after, every } from '../../kernel/clock.ts'
import { messageOf, RungError } from '../../kernel/errors.ts'
import { backoffMs } from '../../kernel/random.ts'
import { parseRedisUrl } from '../../topology/urls.ts'

/** The only importer of `ioredis`, which is loaded with the first connection. */

export type Argument = string | number | Buffer

/**
 * A connection that fails fast: if the server is away, every command fails at once, and if it hangs, after `commandTimeoutMs`. Commands are
 * neither queued nor sent twice; the caller knows whether a failed one may be repeated. Commands reject with REDIS_UNAVAILABLE (try again
 * later) or REDIS_REFUSED (the server refused the command).
 */
export interface RedisClient {
  /** Whether the connection is ready for commands. */
  readonly isUp: boolean
  /** Returns replies as text. Commands of one turn of the event loop are sent together. */
  call(command: string, ...args: readonly Argument[]): Promise<unknown>
  /** Returns replies as bytes. */
  callBuffer(command: string, ...args: readonly Argument[]): Promise<unknown>
  /** Runs a script, which is atomic. It is sent by its hash, and as text if the server does not know it. */
  script(script: Script, keys: readonly string[], args?: readonly Argument[]): Promise<unknown>
  /** Returns the server's facts: a section of `INFO`, or the default sections. */
  info(section?: string): Promise<Record<string, string>>
  /** Calls the listener whenever the connection comes or goes. The returned function ends this. */
  onChange(listener: (isUp: boolean) => void): () => void
  /** Why the connection is down, if it is. */
  readonly trouble: RungError | undefined
  /** For libraries that need an ioredis client. Its errors are not mapped. */
  readonly native: Redis
  close(): void
}

export interface Script {
  readonly text: string
  readonly sha: string
}

export function defineScript(text: string): Script {
  return { text, sha: createHash('sha1').update(text).digest('hex') }
}

export interface RedisClientOptions {
  /** `redis://`, `rediss://` (TLS), `redis+unix://` with the socket's path. */
  url: string
  /** Default 200. */
  commandTimeoutMs?: number
  /** Default 1,000. */
  connectTimeoutMs?: number
  /** Longest wait between attempts to reconnect. Default 1,000. */
  reconnectMsMax?: number
  /** The name in the server's `CLIENT LIST`. */
  name?: string
  /**
   * Other nodes of the same cluster. With `slot`, they are asked which node has that slot while its node is away. Without it, any node will
   * do, and they are tried in turn.
   */
  cluster?: { others: readonly string[]; slot?: number }
}

/**
 * Connects, and returns after the first attempt, whatever its outcome: an app starts without its cache too.
 * @throws CONFIG_INVALID for a URL of another form
 */
export async function openRedis(options: RedisClientOptions): Promise<RedisClient> {
  const native = await connect(options)
  const listeners = new Set<(isUp: boolean) => void>()
  let isUp = native.status === 'ready'
  const change = (now: boolean) => () => {
    if (isUp === now) return
    isUp = now
    for (const listener of listeners) listener(now)
  }
  native.on('ready', change(true))
  native.on('close', change(false))
  const send = <T>(promise: Promise<T>): Promise<T> =>
    promise.catch((error) => {
      throw toRedisError(error)
    })
  const text = (command: string, args: readonly Argument[]) => {
    writeTogether()
    return native.call(command, ...args)
  }
  let corked: Redis['stream'] | undefined
  /** Sends the commands of one turn of the event loop in one write. A write for each would cost more than everything else here. */
  function writeTogether(): void {
    const { stream } = native
    if (!stream || stream === corked) return
    corked = stream
    stream.cork()
    process.nextTick(() => {
      corked = undefined
      stream.uncork()
    })
  }

  async function run(script: Script, keys: readonly string[], args: readonly Argument[]) {
    const rest = [keys.length, ...keys, ...args]
    return text('EVALSHA', [script.sha, ...rest]).catch((error) => {
      if (!messageOf(error).startsWith('NOSCRIPT')) throw error
      return text('EVAL', [script.text, ...rest])
    })
  }

  return {
    get isUp() {
      return isUp
    },
    get trouble() {
      return isUp ? undefined : (troubles.get(native) ?? unreachable('it is not connected'))
    },
    native,
    call: (command, ...args) => send(text(command, args)),
    callBuffer(command, ...args) {
      writeTogether()
      return send(native.callBuffer(command, ...args))
    },
    script: (script, keys, args = []) => send(run(script, keys, args)),
    info: async (section) => factsIn(String(await send(text('INFO', section === undefined ? [] : [section])))),
    onChange(listener) {
      listeners.add(listener)
      return () => listeners.delete(listener)
    },
    close: () => native.disconnect(),
  }
}

/**
 * A connection that receives published messages. Messages are lost while it is down. From `onUp` on, every message arrives.
 */
export interface RedisSubscriber {
  readonly isUp: boolean
  close(): void
}

export interface SubscriberOptions extends RedisClientOptions {
  channels: readonly string[]
  onMessage(channel: string, message: Buffer): void
  /** Called when all channels are subscribed, the first time too. */
  onUp?(): void
  /** Interval of heartbeats. A server that does not answer one within `commandTimeoutMs` counts as gone. Default 100. */
  heartbeatMs?: number
}

/** Subscribes, and returns after the first attempt, whatever its outcome. It continues to try. */
export async function subscribeRedis(options: SubscriberOptions): Promise<RedisSubscriber> {
  let isUp = false
  let wakeFirst = () => {}
  const first = new Promise<void>((resolve) => {
    wakeFirst = resolve
  })
  let native: Redis | undefined
  await connect(options, (redis) => {
    native = redis
    redis.on('messageBuffer', (channel: Buffer, message: Buffer) => options.onMessage(channel.toString(), message))
    redis.on('ready', () => {
      redis.subscribe(...options.channels).then(up, drop)
    })
    redis.on('close', down)
  })

  function up(): void {
    isUp = true
    options.onUp?.()
    wakeFirst()
  }
  function down(): void {
    wakeFirst()
    isUp = false
  }
  /** Ends a connection that hangs. Closing it politely would wait for an answer. */
  function drop(): void {
    down()
    native?.stream?.destroy()
  }
  let asking = false
  const stopBeating = every(options.heartbeatMs ?? 100, () => {
    if (!native || !isUp || asking) return
    asking = true
    const answer = native.ping().catch(drop)
    void answer.finally(() => {
      asking = false
    })
  })
  await first
  return {
    get isUp() {
      return isUp
    },
    close() {
      stopBeating()
      native?.disconnect()
    },
  }
}

/** Returns a server's facts, over a connection of its own. @throws REDIS_UNAVAILABLE, REDIS_REFUSED */
export async function redisFacts(url: string, timeoutMs: number): Promise<Record<string, string>> {
  return once({ url, commandTimeoutMs: timeoutMs }, async (call) => factsIn(String(await call('INFO', 'server'))))
}

/** Sends commands over a connection that is closed afterwards. @throws REDIS_UNAVAILABLE, REDIS_REFUSED */
export async function once<T>(
  options: RedisClientOptions,
  send: (call: RedisClient['call']) => Promise<T>,
): Promise<T> {
  const { Redis: Client } = await import('ioredis')
  const settings = optionsOf(options, { retryStrategy: null })
  const native = new Client(settings)
  native.on('error', () => {})
  const cancel = after(settings.commandTimeout! * 2, () => native.disconnect())
  try {
    await native.connect()
    return await send((command, ...args) => native.call(command, ...args))
  } catch (error) {
    throw toRedisError(error)
  } finally {
    cancel()
    native.disconnect()
  }
}

type SlotRange = [first: number, last: number, primary: [host: string, port: number]]

/** Asks a node of a cluster where the slot is. It knows nothing of it while the node that has it is being replaced. */
async function ownerOf(slot: number, options: RedisClientOptions): Promise<{ host: string; port: number } | undefined> {
  const ranges = (await once(options, (call) => call('CLUSTER', 'SLOTS'))) as SlotRange[]
  const [, , primary] = ranges.find(([first, last]) => slot >= first && slot <= last) ?? []
  return primary && { host: primary[0] || addressIn(options).host!, port: primary[1] }
}

/** Parses the `name:value` lines of `INFO`. */
function factsIn(info: string): Record<string, string> {
  return Object.fromEntries(Array.from(info.matchAll(/^(\w+):(.*)$/gm), ([, name, value]) => [name, value]))
}

/** With `legacy`, replies have the same form for all versions of the server. */
type Options = RedisOptions & { replyMapping: 'legacy' }

/** Why connections are down. */
const troubles = new WeakMap<Redis, RungError>()

async function connect(options: RedisClientOptions, prepare?: (native: Redis) => void): Promise<Redis> {
  const { Redis: Client } = await import('ioredis')
  const { others, slot } = { others: [], slot: undefined, ...options.cluster }
  const all = [options.url, ...others].map((url) => addressIn({ url }))
  const settings = optionsOf(options)
  const isSocket = settings.path !== undefined
  const native = new Client({
    ...settings,
    /**
     * After a failover the old primary only reads: connect to the same name again. A node of a cluster names the node that has the slot.
     * A socket stands for the node behind it: the others have no sockets of that name.
     */
    reconnectOnError({ message }) {
      const moved = isSocket ? null : /^MOVED \d+ (.*):(\d+)$/.exec(message)
      if (!moved) return message.startsWith('READONLY')
      native.options.host = moved[1] || native.options.host!
      native.options.port = Number(moved[2])
      return true
    },
    /** The first attempt is at the last address, which `reconnectOnError` may have changed. */
    retryStrategy(attempt) {
      const isOneSlot = slot !== undefined || all.length === 1
      if (attempt > 1) Object.assign(native.options, all[isOneSlot ? 0 : (attempt - 1) % all.length])
      // Between two attempts at the own address, which the cluster may know by another name.
      if (attempt > 1 && attempt % 2 === 1 && slot !== undefined && !isSocket) askOther(slot, (attempt - 3) / 2)
      return settings.retryStrategy!(attempt)
    },
  })
  function askOther(slot: number, turn: number): void {
    const url = others[turn % others.length]
    if (url === undefined) return
    ownerOf(slot, { ...options, url }).then(
      (owner) => owner && native.status !== 'ready' && Object.assign(native.options, owner),
      () => {}, // it is away too, or no node of a cluster
    )
  }
  native.on('error', (error) => troubles.set(native, toRedisError(error)))
  native.on('ready', () => troubles.delete(native))
  prepare?.(native)
  await native.connect().catch((error) => {
    if (!troubles.has(native)) troubles.set(native, toRedisError(error))
  })
  return native
}

/** Returns where a URL leads, and with which credentials. @throws CONFIG_INVALID */
function addressIn({ url }: Pick<RedisClientOptions, 'url'>): RedisOptions {
  const address = parseRedisUrl(url)
  if (!address) {
    throw new RungError(
      'CONFIG_INVALID',
      'The URL of Redis has the wrong form. Write it like redis://:password@host:6379, or rediss:// for TLS.',
    )
  }
  const { host, port, path, tls, username, password, db } = address
  return {
    ...(path === undefined ? { host: host!, port: port! } : { path }),
    ...(tls && { tls: { servername: host! } }),
    ...(username !== undefined && { username }),
    ...(password !== undefined && { password }),
    db,
  }
}

function optionsOf(options: RedisClientOptions, other: Pick<RedisOptions, 'retryStrategy'> = {}): Options {
  const timeoutMs = options.commandTimeoutMs ?? 200
  return {
    ...addressIn(options),
    lazyConnect: true,
    replyMapping: 'legacy',
    connectionName: options.name ?? 'rung',
    disableClientInfo: true,
    commandTimeout: timeoutMs,
    connectTimeout: options.connectTimeoutMs ?? 1_000,
    socketTimeout: Math.max(1_000, 5 * timeoutMs), // closes a connection that does not answer
    disconnectTimeout: Math.min(200, timeoutMs), // nor does it wait for an answer to QUIT
    keepAlive: 10_000,
    enableOfflineQueue: false,
    // With 1, a command that has timed out is sent again on the next connection, and would store an old value over a newer one.
    maxRetriesPerRequest: 0,
    autoResendUnfulfilledCommands: false,
    autoResubscribe: false,
    retryStrategy: (attempt) => 10 + backoffMs(attempt, 20, (options.reconnectMsMax ?? 1_000) - 10),
    ...other,
  }
}

/** Replies that are temporary. */
const passing =
  /^(LOADING|BUSY|CLUSTERDOWN|MOVED|ASK|MASTERDOWN|READONLY|TRYAGAIN|NOREPLICAS|MISCONF|ERR max number of clients)/

/**
 * Returns an error with a new cause: the library's own errors contain the command with its arguments, among them values and the password,
 * which must not be logged.
 */
export function toRedisError(error: unknown): RungError {
  if (error instanceof RungError) return error
  const reason = messageOf(error).replace(/, with args beginning with:.*$/s, '')
  const cause = new Error(reason)
  const refused = (error as { name?: string } | undefined)?.name === 'ReplyError'
  if (!refused || passing.test(reason)) return unreachable(reason, cause)
  return new RungError('REDIS_REFUSED', `Redis refused: ${reason.replace(/\.$/, '')}.`, { cause })
}

function unreachable(why: string, cause?: Error): RungError {
  return new RungError('REDIS_UNAVAILABLE', `Redis is unavailable: ${why}.`, { cause })
}
