import { createHash } from 'node:crypto'
import type { Redis, RedisOptions } from 'ioredis'
import { after, every, systemClock } from '../../kernel/clock.ts'
import { messageOf, RungError } from '../../kernel/errors.ts'
import { backoffMs } from '../../kernel/random.ts'
import { parseRedisUrl } from '../../topology/urls.ts'

/** The only door to `ioredis`. Loaded with the first connection. */
export type Argument = string | number | Buffer

/**
 * A connection that fails fast: without a server every command fails at once, with one that hangs after `commandTimeoutMs`.
 * Nothing is queued for later and nothing is sent twice: what failed may be repeated by whoever knows that it may be.
 * Everything rejects with REDIS_UNAVAILABLE (try again later) or REDIS_REFUSED (the server said no).
 */
export interface RedisClient {
  /** Ready for commands at this moment. */
  readonly isUp: boolean
  /** Replies as text. */
  call(command: string, ...args: readonly Argument[]): Promise<unknown>
  /** Replies as bytes. */
  callBuffer(command: string, ...args: readonly Argument[]): Promise<unknown>
  /** Several in one round trip; each has an outcome of its own. */
  pipeline(commands: readonly (readonly [command: string, ...args: Argument[]])[]): Promise<Outcome[]>
  /** A script runs as a whole, nothing in between. It is sent by its hash, and as text where the server does not know it. */
  script(script: Script, keys: readonly string[], args?: readonly Argument[]): Promise<unknown>
  scriptBuffer(script: Script, keys: readonly string[], args?: readonly Argument[]): Promise<unknown>
  /** What the server says of itself: a section of `INFO`, or most of it. */
  info(section?: string): Promise<Record<string, string>>
  /** Called with true and false as the connection comes and goes; the returned function ends it. */
  onChange(listener: (isUp: boolean) => void): () => void
  /** Why it is down, where it is. */
  readonly trouble: RungError | undefined
  /** For libraries that take an ioredis client. Its errors are not ours. */
  readonly native: Redis
  close(): void
}

export type Outcome = { ok: true; value: unknown } | { ok: false; error: RungError }

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
  /** Default 1,000: so long after its return a server is in use again, at most. */
  reconnectMsMax?: number
  /** Shown by the server, in `CLIENT LIST`. */
  name?: string
}

/**
 * Connects, and waits for the first attempt, whatever its outcome: an app starts without its cache too.
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
  const bytes = (command: string, args: readonly Argument[]) => {
    writeTogether()
    return native.callBuffer(command, ...args)
  }
  let corked: Redis['stream'] | undefined
  /** What is asked for in one turn of the event loop is one write to the socket: alone, each would cost more than all else here. */
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

  async function run(via: typeof text, script: Script, keys: readonly string[], args: readonly Argument[]) {
    const rest = [keys.length, ...keys, ...args]
    return via('EVALSHA', [script.sha, ...rest]).catch((error) => {
      if (!messageOf(error).startsWith('NOSCRIPT')) throw error
      return via('EVAL', [script.text, ...rest])
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
    callBuffer: (command, ...args) => send(bytes(command, args)),
    script: (script, keys, args = []) => send(run(text, script, keys, args)),
    scriptBuffer: (script, keys, args = []) => send(run(bytes, script, keys, args)),
    info: async (section) => factsIn(String(await send(text('INFO', section === undefined ? [] : [section])))),
    async pipeline(commands) {
      if (commands.length === 0) return []
      const chain = native.pipeline()
      for (const [command, ...args] of commands) chain.call(command, ...args)
      const results = await send(chain.exec())
      return (results ?? []).map(([error, value]) =>
        error ? { ok: false, error: toRedisError(error) } : { ok: true, value },
      )
    },
    onChange(listener) {
      listeners.add(listener)
      return () => listeners.delete(listener)
    },
    close: () => native.disconnect(),
  }
}

/**
 * A connection of its own that hears what others publish. While it is away messages are lost, for good: whoever keeps
 * something up to date by them distrusts it then (`onDown`), until `onUp`, from which on every message is heard.
 */
export interface RedisSubscriber {
  readonly isUp: boolean
  /** When the server was last heard of, in `ticks` of the clock: a message or the answer to a heartbeat. */
  readonly heardAt: number
  close(): void
}

export interface SubscriberOptions extends RedisClientOptions {
  channels: readonly string[]
  onMessage(channel: string, message: Buffer): void
  /** All channels are subscribed. Also for the first time. */
  onUp?(): void
  onDown?(): void
  /** Default 100. A server that does not answer it within `commandTimeoutMs` counts as gone. */
  heartbeatMs?: number
}

/** Waits for the first attempt, whatever its outcome, and goes on trying. */
export async function subscribeRedis(options: SubscriberOptions): Promise<RedisSubscriber> {
  let isUp = false
  let heardAt = Number.NEGATIVE_INFINITY
  let wakeFirst = () => {}
  const first = new Promise<void>((resolve) => {
    wakeFirst = resolve
  })
  let native: Redis | undefined
  await connect(options, (redis) => {
    native = redis
    redis.on('messageBuffer', (channel: Buffer, message: Buffer) => {
      heardAt = systemClock.ticks()
      options.onMessage(channel.toString(), message)
    })
    redis.on('ready', () => {
      redis.subscribe(...options.channels).then(up, drop)
    })
    redis.on('close', down)
  })

  function up(): void {
    heardAt = systemClock.ticks()
    isUp = true
    options.onUp?.()
    wakeFirst()
  }
  function down(): void {
    wakeFirst()
    if (!isUp) return
    isUp = false
    options.onDown?.()
  }
  /** It looks alive, and is not. Closing it politely would wait for an answer; the next connection may be better. */
  function drop(): void {
    down()
    native?.stream?.destroy()
  }
  let asking = false
  const stopBeating = every(options.heartbeatMs ?? 100, () => {
    if (!native || !isUp || asking) return
    asking = true
    const answer = native.ping().then(() => {
      heardAt = systemClock.ticks()
    }, drop)
    void answer.finally(() => {
      asking = false
    })
  })
  await first
  return {
    get isUp() {
      return isUp
    },
    get heardAt() {
      return heardAt
    },
    close() {
      stopBeating()
      native?.disconnect()
    },
  }
}

/** Of one connection, just for this: a server's own facts. */
export async function redisFacts(url: string, timeoutMs: number): Promise<Record<string, string>> {
  const { Redis: Client } = await import('ioredis')
  const native = new Client(optionsOf({ url, commandTimeoutMs: timeoutMs }, { retryStrategy: null }))
  native.on('error', () => {})
  const cancel = after(timeoutMs * 2, () => native.disconnect())
  try {
    await native.connect()
    return factsIn(await native.info('server'))
  } catch (error) {
    throw toRedisError(error)
  } finally {
    cancel()
    native.disconnect()
  }
}

/** `name:value` in each line; headings and empty lines tell nothing. */
function factsIn(info: string): Record<string, string> {
  return Object.fromEntries(Array.from(info.matchAll(/^(\w+):(.*)$/gm), ([, name, value]) => [name, value]))
}

/** Replies have the same form whatever the server's version. */
type Options = RedisOptions & { replyMapping: 'legacy' }

/** Why a connection is down. */
const troubles = new WeakMap<Redis, RungError>()

async function connect(options: RedisClientOptions, prepare?: (native: Redis) => void): Promise<Redis> {
  const { Redis: Client } = await import('ioredis')
  const settings = optionsOf(options)
  const { host, port, retryStrategy } = settings
  const native = new Client({
    ...settings,
    /**
     * After a failover the server that was the primary only reads: look for the new one behind the same name. A node of a cluster names
     * the one that has the slot; all keys of an app have one hash tag, so that one is all it needs.
     */
    reconnectOnError({ message }) {
      const moved = /^MOVED \d+ (.*):(\d+)$/.exec(message)
      if (!moved) return message.startsWith('READONLY')
      native.options.host = moved[1] || native.options.host!
      native.options.port = Number(moved[2])
      return true
    },
    // It may have been given another place meanwhile: whom the URL names knows where it is now.
    retryStrategy(attempt) {
      if (attempt > 1) Object.assign(native.options, { host, port })
      return retryStrategy!(attempt)
    },
  })
  native.on('error', (error) => troubles.set(native, toRedisError(error)))
  native.on('ready', () => troubles.delete(native))
  prepare?.(native)
  await native.connect().catch((error) => {
    if (!troubles.has(native)) troubles.set(native, toRedisError(error))
  })
  return native
}

function optionsOf(options: RedisClientOptions, other: Pick<RedisOptions, 'retryStrategy'> = {}): Options {
  const address = parseRedisUrl(options.url)
  if (!address) {
    throw new RungError(
      'CONFIG_INVALID',
      'The URL of Redis has the wrong form. Write for example redis://:password@host:6379, rediss:// for TLS.',
    )
  }
  const { host, port, path, tls, username, password, db } = address
  const timeoutMs = options.commandTimeoutMs ?? 200
  return {
    ...(path === undefined ? { host: host!, port: port! } : { path }),
    ...(tls && { tls: { servername: host! } }),
    ...(username !== undefined && { username }),
    ...(password !== undefined && { password }),
    db,
    lazyConnect: true,
    replyMapping: 'legacy',
    connectionName: options.name ?? 'rung',
    disableClientInfo: true,
    commandTimeout: timeoutMs,
    connectTimeout: options.connectTimeoutMs ?? 1_000,
    socketTimeout: Math.max(1_000, 5 * timeoutMs), // a connection that keeps silent is given up
    disconnectTimeout: timeoutMs, // nor is a goodbye waited for
    keepAlive: 10_000,
    enableOfflineQueue: false,
    // With 1, a command that has timed out, and was given up, is sent once more on the next connection: a value stored
    // late, over newer ones.
    maxRetriesPerRequest: 0,
    autoResendUnfulfilledCommands: false,
    autoResubscribe: false,
    retryStrategy: (attempt) => 10 + backoffMs(attempt, 20, (options.reconnectMsMax ?? 1_000) - 10),
    ...other,
  }
}

/** A URL that may be logged. */
export function withoutPassword(url: string): string {
  const parsed = URL.parse(url)
  if (!parsed) return '(not a URL)'
  if (parsed.password !== '') parsed.password = '***'
  return parsed.href
}

/** The server said: not now. */
const passing = /^(LOADING|BUSY|CLUSTERDOWN|MASTERDOWN|READONLY|TRYAGAIN|NOREPLICAS|MISCONF|ERR max number of clients)/

/**
 * The cause is made anew: the library's own errors carry the command with its arguments, values and the password among
 * them, and would take them along into logs.
 */
export function toRedisError(error: unknown): RungError {
  if (error instanceof RungError) return error
  const said = messageOf(error).replace(/, with args beginning with:.*$/s, '')
  const cause = new Error(said)
  const refused = (error as { name?: string } | undefined)?.name === 'ReplyError'
  if (!refused || passing.test(said)) return unreachable(said, cause)
  return new RungError('REDIS_REFUSED', `Redis refused: ${said.replace(/\.$/, '')}.`, { cause })
}

function unreachable(why: string, cause?: Error): RungError {
  return new RungError('REDIS_UNAVAILABLE', `Redis cannot be used at the moment: ${why}.`, { cause })
}
