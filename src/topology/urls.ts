/** Whether this is a URL like `postgres://user:password@host:5432/name`, or `postgres://user@/name?host=/folder` for a socket. */
export function isPostgresUrl(text: string): boolean {
  return /^postgres(ql)?:\/\//.test(text) && URL.canParse(text.replace('@/', '@folder/'))
}

export interface RedisAddress {
  host: string | undefined
  port: number | undefined
  /** Path of a Unix socket, instead of a host and a port. */
  path: string | undefined
  tls: boolean
  username: string | undefined
  password: string | undefined
  db: number
}

/** Splits the URLs of the nodes of a Redis, which are separated by commas. */
export function redisUrlsIn(text: string): string[] {
  return text.split(',').map((url) => url.trim())
}

/** Whether this is the URL of a Redis, or are those of nodes of a cluster, which has only the database 0. */
export function areRedisUrls(text: string): boolean {
  const all = redisUrlsIn(text).map(parseRedisUrl)
  return all.every((one) => one !== undefined && (all.length === 1 || one.db === 0))
}

/** Parses `redis://user:password@host:6379/0`, `rediss://host` or `redis+unix://:password@localhost/run/redis.sock?db=1`. */
export function parseRedisUrl(text: string): RedisAddress | undefined {
  const url = URL.parse(text)
  if (!url || !/^(redis|rediss|redis\+unix):$/.test(url.protocol) || url.hash !== '') return undefined
  const local = url.protocol === 'redis+unix:'
  const number = local ? (url.searchParams.get('db') ?? '0') : url.pathname.replace(/^\//, '') || '0'
  if (!/^\d{1,4}$/.test(number) || (!local && url.search !== '')) return undefined
  if (local ? !/^(localhost)?$/.test(url.hostname) || url.pathname.length < 2 : url.hostname === '') return undefined
  try {
    const [username, password, path] = [url.username, url.password, url.pathname].map(decodeURIComponent)
    return {
      host: local ? undefined : url.hostname.replace(/^\[|\]$/g, ''),
      port: local ? undefined : url.port === '' ? 6379 : Number(url.port),
      path: local ? path : undefined,
      tls: url.protocol === 'rediss:',
      username: username || undefined,
      password: password || undefined,
      db: Number(number),
    }
  } catch {
    return undefined // a percent sign that encodes nothing
  }
}

export interface SmtpServer {
  host: string
  port: number
  /** TLS from the first byte; otherwise STARTTLS if the server offers it. */
  secure: boolean
  auth: { user: string; pass: string } | undefined
}

/** Parses `smtp://user:password@host:587` or `smtps://host`. */
export function parseSmtpUrl(text: string): SmtpServer | undefined {
  const url = URL.parse(text)
  if (!url || !/^smtps?:$/.test(url.protocol) || url.hostname === '' || url.pathname.length > 1) return undefined
  if (url.search !== '' || url.hash !== '') return undefined
  const secure = url.protocol === 'smtps:'
  try {
    const [user, pass] = [decodeURIComponent(url.username), decodeURIComponent(url.password)]
    return {
      host: url.hostname.replace(/^\[|\]$/g, ''),
      port: url.port === '' ? (secure ? 465 : 587) : Number(url.port),
      secure,
      auth: user === '' ? undefined : { user, pass },
    }
  } catch {
    return undefined // a percent sign that encodes nothing
  }
}

export interface S3Address {
  tls: boolean
  /** With the port, if it is not the usual one. */
  host: string
  hostname: string
  port: number
  bucket: string
  /** Before every key: empty, or ends with a slash. */
  prefix: string
  region: string
  accessKey: string
  secretKey: string
}

/** Parses `s3://KEY:SECRET@host/bucket/prefix?region=eu-central-1`, or `s3+http://…` without TLS. */
export function parseS3Url(text: string): S3Address | undefined {
  const url = URL.parse(text)
  if (!url || !/^s3(\+http)?:$/.test(url.protocol) || url.hash !== '' || url.hostname === '') return undefined
  if ([...url.searchParams.keys()].some((name) => name !== 'region')) return undefined
  const tls = url.protocol === 's3:'
  try {
    const [accessKey, secretKey, path] = [url.username, url.password, url.pathname].map(decodeURIComponent)
    const [, bucket, prefix = ''] = /^\/([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:\/(.*))?$/.exec(path!) ?? []
    if (!accessKey || !secretKey || bucket === undefined) return undefined
    const folder = prefix.replace(/\/+$/, '')
    if (folder !== '' && !folder.split('/').every((part) => /^[\w.-]+$/.test(part) && !/^\.+$/.test(part)))
      return undefined
    return {
      tls,
      host: url.host,
      hostname: url.hostname.replace(/^\[|\]$/g, ''),
      port: url.port === '' ? (tls ? 443 : 80) : Number(url.port),
      bucket,
      prefix: folder === '' ? '' : `${folder}/`,
      region: url.searchParams.get('region') || regionOf(url.hostname),
      accessKey,
      secretKey,
    }
  } catch {
    return undefined // a percent sign that encodes nothing
  }
}

/** The region in a host of AWS. Most other stores accept `us-east-1`. */
function regionOf(hostname: string): string {
  return /^s3[.-]([a-z0-9-]+)\.amazonaws\.com(\.cn)?$/.exec(hostname)?.[1] ?? 'us-east-1'
}

/** Returns the URL of another database of the same server: `postgres://user@/other?host=/folder`. */
export function withDatabase(url: string, name: string): string {
  const other = new URL(url.replace('@/', '@folder/'))
  other.pathname = `/${encodeURIComponent(name)}`
  return other.href.replace('@folder/', '@/')
}

/** Returns host and port, or "its socket", for messages without a password. */
export function placeOf(url: string): string {
  return URL.parse(url.replace('@/', '@folder/'))?.host.replace('folder', 'its socket') || 'its socket'
}

/** Describes the addresses of several URLs that are separated by commas. */
export function placesOf(urls: string): string {
  const [first, ...others] = urls.split(',')
  return `${placeOf(first!)}${others.length > 0 ? ` and ${others.length} other nodes` : ''}`
}

export interface NatsServers {
  /** `host:port` of the nodes, of which any can be asked. */
  servers: readonly string[]
  user: string | undefined
  password: string | undefined
  tls: boolean
}

/** Parses `nats://user:password@host:4222` or `tls://…`; the nodes of a cluster are separated by commas, and have one user. */
export function parseNatsUrls(text: string): NatsServers | undefined {
  const urls = text.split(',').map((one) => URL.parse(one))
  const [first] = urls
  if (!first || !/^(nats|tls):$/.test(first.protocol)) return undefined
  const servers: string[] = []
  for (const url of urls) {
    if (!url || url.protocol !== first.protocol || url.hostname === '') return undefined
    if (!/^\/?$/.test(url.pathname) || url.search !== '' || url.hash !== '') return undefined
    if (url.username !== first.username || url.password !== first.password) return undefined
    servers.push(`${url.hostname}:${url.port === '' ? 4222 : url.port}`)
  }
  try {
    const [user, password] = [first.username, first.password].map(decodeURIComponent)
    return { servers, user: user || undefined, password: password || undefined, tls: first.protocol === 'tls:' }
  } catch {
    return undefined // a percent sign that encodes nothing
  }
}
