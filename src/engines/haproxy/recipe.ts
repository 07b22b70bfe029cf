import { acmePath, callsPath, requestTimeoutDefaultMs } from '../../kernel/http-facts.ts'
import { groupsMax } from '../../topology/setting-types.ts'
import { edgeRefusals } from '../nginx/edge-terms.ts'
import { hstsHeader, type Routing, type Tls, tlsCiphers, type Upstream } from '../process/engine.ts'

/** How to run HAProxy as the balancer over the processes that answer requests. Pure. */
export const haproxyLeast = '2.4'
export const haproxyVersionFlag = '-v'

export const haproxyPackages = {
  debian: ['haproxy'],
  debianServices: ['haproxy'],
  brew: ['haproxy'],
  dockerImage: 'haproxy:2.6-alpine',
} as const

/** The backend of processes without a group, in commands of the runtime API: `set server app/web-2 state drain`. */
export const backend = 'app'
/** A running HAProxy gets no new backends, so those of groups are there from the start, without servers at first. */
export const groupBackends: readonly string[] = Array.from({ length: groupsMax }, (_, n) => `group-${n + 1}`)
/** Which backend answers a request, and which one a call. HAProxy finds them in its own folder. */
export const routesFile = 'routes.map'
export const callsFile = 'calls.map'
/** The certificate and the key, whose path is also their name in the runtime API. */
export const pemFile = 'entry.pem'
/** A command of the runtime API must fit into a buffer. */
export const pemBytesMax = 30_000
/** The socket of the runtime API. HAProxy binds it under a longer name first. */
export const adminSocket = 'admin.sock'
export const adminSocketLongest = `${adminSocket}.0123456789.tmp`

export interface HaproxySettings {
  /** Folder of the configuration and the admin socket. */
  dir: string
  listen: { host: string; port: number }
  /** Whether clients connect to it. Otherwise the page cache does, whose `X-Forwarded-*` it passes on. */
  isEntry: boolean
  /** Networks of proxies in front of the entry, whose `X-Forwarded-For` and `X-Forwarded-Proto` are passed on. */
  trustedProxies?: readonly string[]
  /** Clients connect by https. Only for the entry. */
  tls?: Tls | undefined
  /** The processes that answer requests. */
  servers: readonly Upstream[]
  /** Where processes call modules of other groups. Without it there are no groups. */
  calls?: { readonly host: string; readonly port: number } | undefined
  threads: number
  /** Connections of clients; further ones wait to be accepted. */
  clientsMax: number
  /** Time limit of a request in the app. */
  requestTimeoutMs: number
  /** Requests that one server handles at the same time; others wait. */
  requestsMax: number
  /** Requests that wait for each server, and for how long at most. */
  queueMax: number
  queueMsMax: number
}

export const haproxyDefaults = {
  requestTimeoutMs: requestTimeoutDefaultMs,
  requestsMax: 4_000,
  queueMax: 1_000,
  queueMsMax: 2_000,
} as const

/**
 * Keywords of each server. `/readyz` itself waits a second for the database. A server that refuses a connection is taken out at once:
 * until its check fails, it would attract requests, since it has none.
 */
const checked =
  'check inter 500ms fastinter 250ms downinter 250ms rise 1 fall 2 observe layer4 error-limit 1 on-error mark-down'

type ServerSettings = Pick<HaproxySettings, 'requestsMax' | 'queueMax'>

/**
 * Each process is two servers: one that is checked, and a `backup` without a check, which gets requests only while no checked one is up.
 * When all processes fail their checks, they are more likely overloaded, or without their database, than gone: each answers what it can.
 */
function serversOf(name: string, settings: ServerSettings): readonly { name: string; keywords: string }[] {
  const limits = `maxconn ${settings.requestsMax} maxqueue ${settings.queueMax}`
  return [
    { name: word(name), keywords: `${checked} slowstart 3s ${limits}` },
    { name: lastResortOf(name), keywords: `backup ${limits}` },
  ]
}

const lastResortOf = (name: string) => `${word(name)}.unchecked`

/** Returns the commands that add a process to a running HAProxy. It is in maintenance at first. */
export function addServerCommands(
  settings: ServerSettings,
  { name, address }: Upstream,
  to = backend,
): { server: string; command: string }[] {
  return serversOf(name, settings).map((one) => ({
    server: `${to}/${one.name}`,
    command: `add server ${to}/${one.name} ${serverAddress(address)} ${one.keywords}`,
  }))
}

/** Returns the names of the servers of a process in commands, the checked one first: `app/web-2`. */
export function serverPaths(name: string, of = backend): [checked: string, lastResort: string] {
  return [`${of}/${word(name)}`, `${of}/${lastResortOf(name)}`]
}

/** Returns the lines of the map that finds the backend of a request, the first that matches. */
export function routesMap({ rules }: Routing, backendOf: (group: string | undefined) => string): string {
  return rules.map(({ pattern, group }) => `${pattern} ${backendOf(group)}\n`).join('')
}

/** Returns the lines of the map that finds the backend of a call by the beginning of its path. */
export function callsMap({ groups }: Routing, backendOf: (group: string | undefined) => string): string {
  return groups
    .flatMap(({ name, modules }) => modules.map((module) => `${callsPath}${word(module)}. ${backendOf(name)}\n`))
    .join('')
}

/** Finds a process in the answer to `show stat`: its sessions, running and waiting, and whether it takes requests. */
export function serverIn(stat: string, name: string): { requests: number; isUp: boolean } | undefined {
  const [heads, ...rows] = stat
    .replace(/^# /, '')
    .split('\n')
    .map((line) => line.split(','))
  const at = (row: string[], column: string) => row[heads!.indexOf(column)]
  const rowOf = (server: string) => rows.find((one) => at(one, 'svname') === server) // names are unique in a fleet
  const [checked, lastResort] = [rowOf(name), rowOf(lastResortOf(name))]
  const requestsOf = (row: string[] | undefined) => (row ? Number(at(row, 'scur')) + Number(at(row, 'qcur')) : 0)
  if (!checked) return undefined
  return { requests: requestsOf(checked) + requestsOf(lastResort), isUp: /^UP\b/.test(at(checked, 'status')!) }
}

/** Returns how long HAProxy waits for the app, in ms. The app itself ends requests that take too long, so this is for an app that hangs. */
function answerTimeoutMs({ requestTimeoutMs }: Pick<HaproxySettings, 'requestTimeoutMs'>): number {
  return requestTimeoutMs + 20_000
}

/**
 * Returns the configuration.
 *
 * - A server takes requests while it answers `/readyz` with 200 and accepts connections. Nothing else takes it out: failures of
 *   requests are not counted (`observe layer4`), since a client could cause them. If all fail their checks, all are tried.
 * - A request is sent again, to another server, if nothing of it was sent before (`conn-failure`), and a GET or HEAD also if the server
 *   died before its answer. Nothing else is ever sent twice. This is the only layer that retries: the page cache has one upstream.
 * - A server that comes back gets its full share only after some seconds (`slowstart`).
 * - Clients cannot forge `X-Forwarded-*`: as the entry HAProxy sets them, but for what trusted proxies say; behind the page cache they are
 *   the page cache's.
 * - Nothing is buffered: uploads, streams and 1xx answers pass through. A buffer takes all headers that the app accepts (16 KiB).
 * - HTTP/2 without TLS is refused: Rung's own server does not have it either, and its translation is a way to smuggle requests.
 * - A certificate is replaced by the runtime API, without a reload. There are no tickets of TLS: their key would stay the same as long as
 *   HAProxy runs.
 * - Its own refusals have the form of the app's. Behind the page cache they tell it how to answer (`X-Accel-Redirect`), since it knows
 *   the app's wording.
 */
export function haproxyConfig(settings: HaproxySettings): string {
  const { dir, listen, isEntry, tls } = settings
  const host = listen.host.includes(':') ? `[${word(listen.host)}]` : word(listen.host)
  return `\
global
  log stdout format raw daemon notice
  stats socket ${quote(`${dir}/${adminSocket}`)} mode 600 level admin
  stats timeout 10s
  nbthread ${settings.threads}
  maxconn ${settings.clientsMax}
  hard-stop-after ${settings.requestTimeoutMs}ms
  tune.bufsize 32768
  tune.maxrewrite 2048
  tune.http.maxhdr 256
${tls ? tlsDefaults : ''}
defaults
  mode http
  option http-keep-alive
  option dontlognull
  option disable-h2-upgrade
  timeout http-request 15s
  timeout http-keep-alive 65s
  timeout client 30s
  timeout connect 2s
  timeout queue ${settings.queueMsMax}ms
  timeout server ${answerTimeoutMs(settings)}ms
  timeout tunnel 1h
  timeout check 2s
${refusals(isEntry)}
frontend entry
  bind ${host}:${listen.port}${tls ? ` ssl crt ${quote(`${dir}/${pemFile}`)} alpn h2,http/1.1` : ''}
${isEntry ? forwarded(tls ? 'https' : 'http', settings.trustedProxies) : ''}\
${tls ? hstsLine(tls) : ''}\
${settings.calls ? toGroups : ''}\
  default_backend ${backend}
${tls?.plainPort === undefined ? '' : plainFrontend(settings, tls, `${host}:${tls.plainPort}`)}\
${settings.calls ? callsFrontend(settings.calls) : ''}\
${[backend, ...(settings.calls ? groupBackends : [])].map((name) => backendText(name, settings)).join('')}`
}

/** Returns the backend of each group: the first group has the first of them. */
export function backendsOf(servers: readonly Upstream[]): Map<string, string> {
  const names = new Set(servers.flatMap(({ group }) => (group === undefined ? [] : [group])))
  return new Map([...names].map((name, n) => [name, groupBackends[n]!]))
}

/** The processes of a group, or those that have none. */
function backendText(name: string, settings: HaproxySettings): string {
  const backends = backendsOf(settings.servers)
  return `
backend ${name}
  log global
  balance leastconn
  http-reuse safe
  option httpchk
  http-check send meth GET uri /readyz ver HTTP/1.1 hdr Host localhost
  http-check expect status 200
  retries 3
  option redispatch 1
  option allbackups
  retry-on conn-failure empty-response
  http-request disable-l7-retry unless METH_GET
${settings.servers
  .filter(({ group }) => (group === undefined ? backend : backends.get(group)) === name)
  .flatMap(({ name, address }) =>
    serversOf(name, settings).map((one) => `  server ${one.name} ${serverAddress(address)} ${one.keywords}`),
  )
  .join('\n')}
`
}

/** No client leads a request to the door of calls, and each request goes to the group that has its route. */
const toGroups = `\
  http-request deny deny_status 404 if { path_beg ${callsPath} }
  http-request set-var(txn.path) path
  use_backend %[method,concat(:,txn.path),map_reg(${routesFile},${backend})]
`

/** Only processes of this machine, whose calls are signed, connect to it. */
function callsFrontend({ host, port }: NonNullable<HaproxySettings['calls']>): string {
  return `
frontend calls
  bind ${word(host)}:${port}
  use_backend %[path,map_beg(${callsFile},${backend})]
`
}

const tlsDefaults = `\
  ssl-default-bind-options ssl-min-ver TLSv1.2 no-tls-tickets
  ssl-default-bind-ciphers ${tlsCiphers}
`

function hstsLine(tls: Tls): string {
  const hsts = hstsHeader(tls)
  return hsts === undefined ? '' : `  http-after-response set-header Strict-Transport-Security "${hsts}"\n`
}

/** Clients of plain http are led to https, with their method and body. */
function plainFrontend({ listen: { port }, trustedProxies }: HaproxySettings, { acme }: Tls, listen: string): string {
  const target = `https://%[var(txn.host)]${port === 443 ? '' : `:${port}`}%[pathq]`
  return `
frontend plain
  bind ${listen}
${forwarded('http', trustedProxies)}\
  http-request set-var(txn.host) req.hdr(host),regsub(:[0-9]+$,)
  http-request redirect location ${target} code 308${acme ? ` unless { path_beg ${acmePath} }` : ''}
  default_backend ${backend}
`
}

/** A trusted proxy is added to the addresses that it names: the app, which trusts it too, finds the client before it. */
const forwarded = (scheme: 'http' | 'https', proxies: readonly string[] = []) => `\
${
  proxies.length === 0
    ? `\
  http-request set-header X-Forwarded-For %[src]
  http-request set-header X-Forwarded-Proto ${scheme}
`
    : `\
  acl trusted src ${proxies.map(network).join(' ')}
  acl https req.fhdr(X-Forwarded-Proto,-1) -m str https
  http-request set-header X-Forwarded-For %[src] unless trusted
  http-request add-header X-Forwarded-For %[src] if trusted
  http-request set-header X-Forwarded-Proto ${scheme} unless trusted https
  http-request set-header X-Forwarded-Proto https if trusted https
`
}\
  http-request set-header X-Forwarded-Host %[req.hdr(host)]
  http-request del-header Forwarded
  http-request del-header X-Rung-Page
  http-request del-header X-Rung-Purges
`

/** HAProxy's own answers, by status, with that of the refusal. Where none is named, a request has not reached any server. */
const ownAnswers: readonly [status: number, refusal: number][] = [
  [400, 400],
  [408, 400],
  [502, 502],
  [503, 503],
  [504, 502],
]

function refusals(isEntry: boolean): string {
  const lines = ownAnswers.map(([status, refusal]) => {
    const [code, detail] = edgeRefusals[refusal]!
    const title = status === 408 ? 'Request Timeout' : titles[refusal]
    const body = JSON.stringify({ type: `urn:rung:error:${code}`, title, status, code, detail })
    const headers = [
      ['Cache-Control', 'no-store'],
      ...(status === 503 ? [['Retry-After', '1']] : []),
      // The page cache decides from the method whether a request that was sent may be repeated.
      ...(isEntry ? [] : [['X-Accel-Redirect', refusal === 502 ? '@down' : `/-/refused/${refusal}`]]),
    ]
    const written = headers.map(([name, value]) => `hdr ${name} ${value}`).join(' ')
    return `  http-error status ${status} content-type application/problem+json string '${body}' ${written}\n`
  })
  return lines.join('')
}

const titles: Readonly<Record<number, string>> = {
  400: 'Bad Request',
  502: 'Bad Gateway',
  503: 'Service Unavailable',
}

/** `HAProxy version 2.6.12-1+deb12u4 2026/10/17 - https://haproxy.org/` */
export function haproxyVersion(text: string): string | undefined {
  return /^HA-?Proxy version (\d+(?:\.\d+)+)/.exec(text)?.[1]
}

function serverAddress(address: string): string {
  if (!/^(\[[\da-f:]+\]|[\w.-]+):\d+$/i.test(address)) throw unwritable(address)
  return address
}

function network(text: string): string {
  if (!/^[\da-f.:]+(\/\d+)?$/i.test(text)) throw unwritable(text)
  return text
}

function word(text: string): string {
  if (!/^[\w.:-]+$/.test(text)) throw unwritable(text)
  return text
}

/** Quotes a path. */
function quote(text: string): string {
  if (/[\n\r']/.test(text)) throw unwritable(text)
  return `'${text}'`
}

function unwritable(text: string): TypeError {
  return new TypeError(`HAProxy's configuration cannot contain ${JSON.stringify(text)}`)
}
