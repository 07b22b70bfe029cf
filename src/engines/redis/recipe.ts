/** How to run Redis or Valkey as a cache. Pure. */
export const redisLeast = '6.2'
/** Both have the same protocol and the same settings. */
export const redisPrograms = ['redis-server', 'valkey-server'] as const
/** A cluster needs `cluster-port` and `CLUSTER ADDSLOTSRANGE`. */
export const redisClusterLeast = '7.0'
export const redisVersionFlag = '--version'

export const redisPackages = {
  debian: ['redis-server'],
  debianServices: ['redis-server'],
  brew: ['redis'],
  dockerImage: 'redis:7.4.9-alpine',
} as const

export interface RedisSettings {
  /** Folder for configuration. It contains no data. */
  dir: string
  /** A TCP port, by default of this machine only, or a Unix socket that only its owner may open. */
  listen: { host?: string; port: number } | { socketPath: string }
  /** As a node of a cluster on this machine it listens on these TCP ports besides. */
  cluster?: { port: number; busPort: number } | undefined
  /** Beyond this, the least used entries are evicted. */
  memoryMaxBytes: number
  /** Always set, because every user of the machine reaches a TCP port. `undefined`: on the command line, since the file may be read by others. */
  password: string | undefined
}

/**
 * Returns the configuration. It differs from the defaults, each for a reason:
 * - nothing on disk (`save ""`, no append-only file): a fork to write the cache would double the memory, and a restarted cache must be
 *   empty, not old;
 * - `allkeys-lfu`: entries that are read once do not evict entries that are read often;
 * - lazy freeing: other commands do not wait while a large value is freed;
 * - `tcp-keepalive` 60: connections of vanished nodes are closed.
 *
 * A node of a cluster stores who has which slots, and nothing else. It serves its own whatever becomes of the others
 * (`cluster-require-full-coverage`): without replicas there is nobody to promote, so nodes need not agree on who is gone. A node that sees most
 * others gone would refuse its own slots too; with a timeout of a day it does not.
 */
export function redisConfig(settings: RedisSettings): string {
  const { listen, cluster } = settings
  const lines: [string, string | number][] = [
    ...('port' in listen
      ? ([
          ['bind', listen.host ?? '127.0.0.1'],
          ['port', listen.port],
        ] as [string, string | number][])
      : ([
          ...(cluster ? [['bind', '127.0.0.1']] : []),
          ['port', cluster?.port ?? 0],
          ['unixsocket', quote(listen.socketPath)],
          ['unixsocketperm', '700'],
        ] as [string, string | number][])),
    ['protected-mode', 'yes'],
    ['daemonize', 'no'],
    ['dir', quote(settings.dir)],
    ['logfile', '""'], // standard output
    ['save', '""'],
    ['appendonly', 'no'],
    ['maxmemory', settings.memoryMaxBytes],
    ['maxmemory-policy', 'allkeys-lfu'],
    ['lazyfree-lazy-eviction', 'yes'],
    ['lazyfree-lazy-expire', 'yes'],
    ['lazyfree-lazy-server-del', 'yes'],
    ...((cluster
      ? [
          ['cluster-enabled', 'yes'],
          ['cluster-config-file', 'nodes.conf'],
          ['cluster-port', cluster.busPort],
          ['cluster-node-timeout', 86_400_000],
          ['cluster-require-full-coverage', 'no'],
        ]
      : []) as [string, string | number][]),
    ['maxclients', 10_000],
    ['tcp-keepalive', 60],
    ['timeout', 0],
    ...(settings.password === undefined ? [] : ([['requirepass', quote(settings.password)]] as [string, string][])),
  ]
  return `${lines.map(([name, value]) => `${name} ${value}`).join('\n')}\n`
}

export function redisUrl({ listen, password }: Pick<RedisSettings, 'listen'> & { password: string }): string {
  const secret = encodeURIComponent(password)
  if ('port' in listen) return `redis://:${secret}@127.0.0.1:${listen.port}`
  return `redis+unix://:${secret}@localhost${encodeURI(listen.socketPath).replaceAll(',', '%2C')}` // commas separate nodes
}

/** `Redis server v=7.0.15 sha=…`, `Valkey server v=8.0.1 …`. */
export function redisVersion(text: string): { product: 'Redis' | 'Valkey'; version: string } | undefined {
  const match = /(redis|valkey) server v=(\d+(?:\.\d+)+)/i.exec(text)
  if (!match) return undefined
  return { product: match[1]!.toLowerCase() === 'valkey' ? 'Valkey' : 'Redis', version: match[2]! }
}

/** Quotes a value for the server's parser of lines. */
function quote(text: string): string {
  const escaped = [...Buffer.from(text)].map((byte) => {
    const plain = byte > 0x20 && byte < 0x7f && byte !== 0x22 && byte !== 0x5c
    return plain || byte === 0x20 ? String.fromCharCode(byte) : `\\x${byte.toString(16).padStart(2, '0')}`
  })
  return `"${escaped.join('')}"`
}
