/** How to run NATS with JetStream as the broker of events. Pure. */

/** The one of Debian 12. Its JetStream can lose what it has acknowledged, and it has one filter for each consumer. */
export const natsLeast = '2.9'
export const natsPrograms = ['nats-server'] as const
export const natsVersionFlag = '--version'
export const natsUser = 'rung'
/** In the folder of a server. */
export const natsConfigFile = 'nats.conf'

export const natsPackages = {
  debian: ['nats-server'],
  debianServices: ['nats-server'],
  brew: ['nats-server'],
  dockerImage: 'nats:2.11.16-alpine',
} as const

/** Most bytes of one message. Larger events are read from the outbox. The server warns above 8 MiB. */
export const natsMessageBytesMax = 1024 ** 2

export interface NatsSettings {
  /** Its name in the cluster, which it keeps. `undefined`: on the command line. */
  name: string | undefined
  /** Folder for configuration and for the stream. */
  dir: string
  listen: { host?: string; port: number }
  /** `undefined`: on the command line, see `natsArgs`, since the file may be read by others. */
  password: string | undefined
  /** Bytes of the disk that JetStream may use. */
  storeBytesMax: number
  /** Where the nodes of a cluster reach each other; `undefined` for a single node. */
  cluster?: { host?: string; port: number; routes: readonly string[] } | undefined
}

/**
 * Returns the configuration. JetStream writes to the disk, and flushes it to the device every two minutes: what a crash of the machine
 * takes is filled from the outbox again.
 */
export function natsConfig({ name, dir, listen, password, storeBytesMax, cluster }: NatsSettings): string {
  const login = password === undefined ? undefined : `{ user: ${quote(natsUser)}, password: ${quote(password)} }`
  const lines = [
    ...(name === undefined ? [] : [`server_name: ${quote(name)}`]),
    `listen: ${quote(`${listen.host ?? '127.0.0.1'}:${listen.port}`)}`,
    `max_payload: ${natsMessageBytesMax}`,
    ...(login === undefined ? [] : [`authorization: ${login}`]),
    `jetstream: { store_dir: ${quote(`${dir}/store`)}, max_file_store: ${storeBytesMax}, max_memory_store: ${64 * 1024 ** 2} }`,
    // A client that does not answer is closed within this time: its messages go to another one.
    'ping_interval: "5s"',
    'ping_max: 2',
  ]
  if (cluster && password !== undefined) {
    const { host = '127.0.0.1', port, routes } = cluster
    const addresses = routes.map((route) => quote(natsUrl(route, password))).join(', ')
    lines.push(
      `cluster: { name: "rung", listen: ${quote(`${host}:${port}`)}, authorization: ${login}, routes: [${addresses}] }`,
    )
  }
  return `${lines.join('\n')}\n`
}

/** Returns the password in a configuration of `natsConfig`. */
export function passwordIn(config: string): string {
  return /password: "([\w-]*)"/.exec(config)?.[1] ?? ''
}

/** Returns the command line of a server whose file has no password. */
export function natsArgs(
  configFile: string,
  {
    name,
    password,
    cluster,
  }: { name: string; password: string; cluster?: { port: number; routes: readonly string[] } },
): string[] {
  return [
    ...['--config', configFile, '--name', name, '--user', natsUser, '--pass', password],
    ...(cluster
      ? [
          ...['--cluster_name', 'rung', '--cluster', `nats://${natsUser}:${password}@0.0.0.0:${cluster.port}`],
          ...['--routes', cluster.routes.map((route) => `nats://${natsUser}:${password}@${route}`).join(',')],
        ]
      : []),
  ]
}

/** For what JetStream keeps beside the messages. */
const spareMib = 64

/** Returns the disk space of a node whose stream may have this size. */
export function storeBytesOf({ streamMib }: { streamMib: number }): number {
  return (streamMib + spareMib) * 1024 ** 2
}

export const natsPorts = { clients: 4222, routes: 6222 } as const

/** `address` is `host:port`. */
export function natsUrl(address: string, password: string): string {
  return `nats://${natsUser}:${encodeURIComponent(password)}@${address}`
}

/** `nats-server: v2.9.10` */
export function natsVersion(text: string): string | undefined {
  return /nats-server: v(\d+(?:\.\d+)+)/i.exec(text)?.[1]
}

/** Quotes a value for the server's parser. */
function quote(text: string): string {
  return JSON.stringify(text)
}
