/** How to run NATS with JetStream as the broker of events. Pure. */

/** The one of Debian 12. Its JetStream can lose what it has acknowledged, and it has one filter for each consumer. */
export const natsLeast = '2.9'
export const natsPrograms = ['nats-server'] as const
export const natsVersionFlag = '--version'
export const natsUser = 'rung'

export const natsPackages = {
  debian: ['nats-server'],
  debianServices: ['nats-server'],
  brew: ['nats-server'],
  dockerImage: 'nats:2.12.3-alpine',
} as const

/** Most bytes of one message. Larger events are read from the outbox. The server warns above 8 MiB. */
export const natsMessageBytesMax = 1024 ** 2

export interface NatsSettings {
  /** Its name in the cluster, which it keeps. */
  name: string
  /** Folder for configuration and for the stream. */
  dir: string
  listen: { host?: string; port: number }
  password: string
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
  const login = `{ user: ${quote(natsUser)}, password: ${quote(password)} }`
  const lines = [
    `server_name: ${quote(name)}`,
    `listen: ${quote(`${listen.host ?? '127.0.0.1'}:${listen.port}`)}`,
    `max_payload: ${natsMessageBytesMax}`,
    `authorization: ${login}`,
    `jetstream: { store_dir: ${quote(`${dir}/store`)}, max_file_store: ${storeBytesMax}, max_memory_store: ${64 * 1024 ** 2} }`,
    // A client that does not answer is closed within this time: its messages go to another one.
    'ping_interval: "5s"',
    'ping_max: 2',
  ]
  if (cluster) {
    const { host = '127.0.0.1', port, routes } = cluster
    const addresses = routes.map((route) => quote(natsUrl(route, password))).join(', ')
    lines.push(
      `cluster: { name: "rung", listen: ${quote(`${host}:${port}`)}, authorization: ${login}, routes: [${addresses}] }`,
    )
  }
  return `${lines.join('\n')}\n`
}

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
