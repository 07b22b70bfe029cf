import { readFile } from 'node:fs/promises'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo, Socket } from 'node:net'
import { text } from 'node:stream/consumers'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { gzip } from 'node:zlib'
import { every } from '../kernel/clock.ts'
import { RungError } from '../kernel/errors.ts'
import { Feed, failureOf, type Query, type View } from './feed.ts'
import { type GateSettings, passOf, verdictOn } from './gate.ts'

/** What others wrote, such as the HTML of a mail: it is shown in a frame or as a picture. */
export type Content = (query: Query) => Promise<{ type: string; body: string | Buffer }>

/** Something that a page does: a command. */
export type Action = (input: Query) => Promise<unknown>

export interface ConsoleOptions {
  host: string
  port: number
  /** Opens no port: another process has it, and its connections come by `take`. */
  passed?: boolean
  token: string
  /** The address in a browser if a proxy is in front: `https://console.example.org`. */
  origin?: string | undefined
  acts: boolean
  views: Readonly<Record<string, View>>
  actions: Readonly<Record<string, Action>>
  contents: Readonly<Record<string, Content>>
  /** What pages show at their head. */
  about: { readonly app: string; readonly version: string }
}

export interface Console {
  /** With the token. */
  readonly url: string
  /** Serves a connection that another process has accepted. */
  take(connection: Socket): void
  close(): Promise<void>
}

const bodyBytesMax = 16_384
export const connectionsMax = 64
/** A client that reads so slowly that more than this waits for it is disconnected. */
const unreadBytesMax = 4 * 1024 ** 2
/** A proxy ends a connection on which nothing comes for a minute. */
const aliveEveryMs = 20_000

const headers = {
  'cache-control': 'no-cache',
  'content-security-policy':
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-src 'self'; frame-ancestors 'none'",
  'x-content-type-options': 'nosniff',
  'referrer-policy': 'no-referrer',
  'cross-origin-opener-policy': 'same-origin',
  'cross-origin-resource-policy': 'same-origin',
}

/** Content of others has an origin of its own, runs nothing, sends nothing, and loads nothing, not even from the console. */
const contentHeaders = {
  'content-security-policy':
    "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'self'",
  'x-dns-prefetch-control': 'off',
}

/**
 * Serves the console: its pages, its read models, and what they change.
 *
 *   GET  /                      the page; everything below it is drawn in the browser
 *   GET  /page/console.js       its files
 *   GET  /about                 the app's name, and what addresses need that cannot have the token in a header
 *   GET  /view/fleet?…          a read model, once
 *   GET  /live?view=fleet&…     server-sent events: each of these read models whenever it changes
 *   GET  /content/mail?…        content of others, in a sandbox
 *   POST /do/restart            a change, as JSON
 */
export async function serveConsole(options: ConsoleOptions): Promise<Console> {
  const { host, port, passed, token, acts, views, actions, contents, about } = options
  const feed = new Feed(views)
  let gate: GateSettings = { token, origins: [], acts }
  const passes = { live: passOf('live', token), content: passOf('content', token) }

  const server = createServer({ connectionsCheckingInterval: 5_000 }, (request, response) => {
    answer(request, response).catch((error) => {
      if (response.headersSent) response.destroy()
      else sendJson(request, response, 500, { error: failureOf(error) })
    })
  })
  server.maxConnections = connectionsMax
  server.headersTimeout = 10_000
  server.requestTimeout = 30_000

  async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    for (const [name, value] of Object.entries(headers)) response.setHeader(name, value)
    const address = `http://console${request.url ?? '/'}`
    if (!URL.canParse(address)) return missing(request, response)
    const { pathname, searchParams } = new URL(address)
    const [, folder = '', name = ''] = pathname.split('/')
    const verdict = verdictOn(
      {
        method: request.method ?? 'GET',
        host: request.headers.host,
        origin: request.headers.origin,
        folder,
        authorization: request.headers.authorization,
        pass: searchParams.get('pass') ?? undefined,
      },
      gate,
    )
    searchParams.delete('pass')
    if (!verdict.enters) return send(request, response, verdict.status, 'text/plain; charset=utf-8', `${verdict.why}\n`)
    if (request.method === 'POST') {
      const action = folder === 'do' && Object.hasOwn(actions, name) ? actions[name] : undefined
      if (!action) return missing(request, response)
      const outcome = await bodyOf(request)
        .then(action)
        .then(
          (view) => ({ status: 200, body: { view } }),
          (error) => ({ status: 409, body: { error: failureOf(error) } }),
        )
      feed.refresh()
      return sendJson(request, response, outcome.status, outcome.body)
    }
    if (request.method !== 'GET' && request.method !== 'HEAD') return missing(request, response)
    if (folder === 'view' && Object.hasOwn(views, name))
      return sendJson(request, response, 200, await feed.read(name, Object.fromEntries(searchParams)))
    if (folder === 'content' && Object.hasOwn(contents, name)) {
      const content = await contents[name]!(Object.fromEntries(searchParams)).catch(() => undefined)
      if (!content) return missing(request, response)
      for (const [header, value] of Object.entries(contentHeaders)) response.setHeader(header, value)
      return send(request, response, 200, content.type, content.body)
    }
    if (folder === 'live') return live(request, response, searchParams)
    if (folder === 'about') return sendJson(request, response, 200, { ...about, acts, passes })
    if (folder === 'page') return sendFile(request, response, name)
    // Every other address is one of a page.
    return sendFile(request, response, 'index.html')
  }

  async function live(request: IncomingMessage, response: ServerResponse, query: URLSearchParams): Promise<void> {
    const asked = query.getAll('view')
    const names = asked.map((one) => one.split('?')[0]!)
    if (names.length === 0 || names.length > 12 || !names.every((name) => Object.hasOwn(views, name)))
      return missing(request, response)
    response.writeHead(200, { 'content-type': 'text/event-stream', 'x-accel-buffering': 'no' })
    const write = (text: string): void => {
      if (response.writableLength > unreadBytesMax) response.destroy()
      else response.write(text)
    }
    write('retry: 1000\n\n')
    const ends = asked.map((one, index) => {
      const given = Object.fromEntries(new URLSearchParams(one.split('?')[1] ?? ''))
      return feed.watch(names[index]!, given, (reading) =>
        write(`data: ${JSON.stringify({ name: names[index], ...reading })}\n\n`),
      )
    })
    const endAlive = every(aliveEveryMs, () => write(':\n\n'))
    response.once('close', () => {
      endAlive()
      for (const end of ends) end()
    })
  }

  const listening = () =>
    new Promise<void>((resolve, reject) => server.once('error', reject).listen(port, host, resolve))
  // Node counts and times connections from this event on, also those that it has not accepted itself.
  if (passed) server.emit('listening')
  else
    await listening().catch((cause) => {
      throw new RungError('PORT_IN_USE', `Port ${port} of ${host} cannot be used. Choose another one with --port.`, {
        cause,
      })
    })
  const publicPort = passed ? port : (server.address() as AddressInfo).port
  const own = ['127.0.0.1', 'localhost'].map((name) => `http://${name}:${publicPort}`)
  gate = { ...gate, origins: options.origin === undefined ? own : [options.origin] }
  return {
    url: `${gate.origins[0]}/?token=${token}`,
    take(connection) {
      server.emit('connection', connection)
      connection.resume()
    },
    async close() {
      feed.close()
      const closed = new Promise<void>((resolve) => server.close(() => resolve()))
      server.closeAllConnections()
      await closed
    },
  }
}

async function bodyOf(request: IncomingMessage): Promise<Query> {
  let bytes = 0
  request.on('data', (chunk: Buffer) => {
    bytes += chunk.length
    if (bytes > bodyBytesMax) request.destroy()
  })
  const isText = (value: unknown) => typeof value === 'string' && value.length <= 2_000
  try {
    const body: unknown = JSON.parse(await text(request))
    if (typeof body === 'object' && body !== null && Object.values(body).every(isText)) return body as Query
  } catch {
    // answered below
  }
  throw new RungError('COMMAND_INVALID', 'The body must be a JSON object of texts.')
}

const types: Record<string, string> = {
  html: 'text/html; charset=utf-8',
  js: 'text/javascript; charset=utf-8',
  css: 'text/css; charset=utf-8',
  svg: 'image/svg+xml',
}
const folder = fileURLToPath(new URL('./page/', import.meta.url))
/** Files of the page that are kept elsewhere. */
const elsewhere: Record<string, string> = {
  'tokens.css': '../kernel/tokens.css',
  'uplot.js': 'uplot/dist/uPlot.esm.js',
  'uplot.css': 'uplot/dist/uPlot.min.css',
}

async function sendFile(request: IncomingMessage, response: ServerResponse, name: string): Promise<void> {
  const type = types[/^[a-z-]+\.([a-z]+)$/.exec(name)?.[1] ?? '']
  const file = Object.hasOwn(elsewhere, name)
    ? fileURLToPath(import.meta.resolve(elsewhere[name]!))
    : `${folder}${name}`
  const content = type === undefined ? undefined : await readFile(file).catch(() => undefined)
  if (content === undefined) return missing(request, response)
  return send(request, response, 200, type!, content)
}

function missing(request: IncomingMessage, response: ServerResponse): Promise<void> {
  return send(request, response, 404, 'text/plain; charset=utf-8', 'Nothing is here.\n')
}

function sendJson(request: IncomingMessage, response: ServerResponse, status: number, body: unknown): Promise<void> {
  return send(request, response, status, 'application/json', JSON.stringify(body))
}

const zip = promisify(gzip)

async function send(
  request: IncomingMessage,
  response: ServerResponse,
  status: number,
  type: string,
  content: string | Buffer,
): Promise<void> {
  const isZipped = /\bgzip\b/.test(String(request.headers['accept-encoding'])) && content.length > 1_000
  const body = isZipped ? await zip(content) : Buffer.from(content)
  response.writeHead(status, {
    'content-type': type,
    'content-length': body.length,
    ...(isZipped && { 'content-encoding': 'gzip' }),
    vary: 'accept-encoding',
  })
  response.end(request.method === 'HEAD' ? undefined : body)
}
