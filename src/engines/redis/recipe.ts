/** How to run Redis (6.2 or newer) or Valkey as a cache, as text: nothing here touches the machine. */
export const redisLeast = '6.2'
/** Either speaks the same protocol and takes the same settings. */
export const redisPrograms = ['redis-server', 'valkey-server'] as const
export const redisVersionFlag = '--version'

export const redisPackages = {
  debian: ['redis-server'],
  debianServices: ['redis-server'],
  brew: ['redis'],
  dockerImage: 'redis:7',
} as const

export interface RedisSettings {
  /** Its own folder. Nothing of value is ever in it. */
  dir: string
  /** A TCP port of this machine only, or a Unix socket that only its owner may open. */
  listen: { port: number } | { socketPath: string }
  /** Beyond this the least used entries go. */
  memoryMaxBytes: number
  /** Everybody on the machine reaches a TCP port: there is always a password. */
  password: string
  connectionsMax: number
}

/**
 * Differences from the defaults, each for a reason:
 * - nothing on disk (`save ""`, no append-only file): it is a cache, and a fork to write it would double the memory. One
 *   that comes back is empty, never old;
 * - `allkeys-lfu`: a scan of things that nobody asks for again does not push out what everybody does;
 * - lazy freeing: dropping a large value does not make others wait;
 * - `tcp-keepalive` 60: connections of nodes that vanished do not pile up.
 */
export function redisConfig(settings: RedisSettings): string {
  const { listen } = settings
  const lines: [string, string | number][] = [
    ...('port' in listen
      ? ([
          ['bind', '127.0.0.1'],
          ['port', listen.port],
        ] as [string, string | number][])
      : ([
          ['port', 0],
          ['unixsocket', quote(listen.socketPath)],
          ['unixsocketperm', '700'],
        ] as [string, string | number][])),
    ['protected-mode', 'yes'],
    ['daemonize', 'no'],
    ['dir', quote(settings.dir)],
    ['logfile', '""'], // standard output, which is the log of whoever starts it
    ['save', '""'],
    ['appendonly', 'no'],
    ['maxmemory', settings.memoryMaxBytes],
    ['maxmemory-policy', 'allkeys-lfu'],
    ['lazyfree-lazy-eviction', 'yes'],
    ['lazyfree-lazy-expire', 'yes'],
    ['lazyfree-lazy-server-del', 'yes'],
    ['maxclients', settings.connectionsMax],
    ['tcp-keepalive', 60],
    ['timeout', 0],
    ['requirepass', quote(settings.password)],
  ]
  return `${lines.map(([name, value]) => `${name} ${value}`).join('\n')}\n`
}

/** The settings hold a password, so they come in a file, never on the command line, where everybody could see them. */
export function redisArgs(configFile: string): string[] {
  return [configFile]
}

export function redisUrl({ listen, password }: Pick<RedisSettings, 'listen' | 'password'>): string {
  const secret = encodeURIComponent(password)
  if ('port' in listen) return `redis://:${secret}@127.0.0.1:${listen.port}`
  return `redis+unix://:${secret}@localhost${encodeURI(listen.socketPath)}`
}

/** `Redis server v=7.0.15 sha=…`, `Valkey server v=8.0.1 …`. */
export function redisVersion(text: string): { product: 'Redis' | 'Valkey'; version: string } | undefined {
  const match = /(redis|valkey) server v=(\d+(?:\.\d+)+)/i.exec(text)
  if (!match) return undefined
  return { product: match[1]!.toLowerCase() === 'valkey' ? 'Valkey' : 'Redis', version: match[2]! }
}

/** As the server's own splitter of lines reads it. */
function quote(text: string): string {
  const escaped = [...Buffer.from(text)].map((byte) => {
    const plain = byte > 0x20 && byte < 0x7f && byte !== 0x22 && byte !== 0x5c
    return plain || byte === 0x20 ? String.fromCharCode(byte) : `\\x${byte.toString(16).padStart(2, '0')}`
  })
  return `"${escaped.join('')}"`
}
