import assert from 'node:assert/strict'
import { channel } from 'node:diagnostics_channel'
import { once } from 'node:events'
import { Agent, type IncomingMessage, request } from 'node:http'
import { type AddressInfo, connect, createServer } from 'node:net'
import { describe, it } from 'node:test'
import { createHttp } from '../../src/primitives/http/http.ts'
import { createLog } from '../../src/runtime/log.ts'
import { noHaproxy, startOn } from '../support/haproxy.ts'
import { noNginx, testPageCache } from '../support/nginx.ts'
import { withTempDir } from '../support/postgres.ts'
import { markerLength, type RawRequest, rawRequests } from './raw-requests.ts'

/** What the app saw, in the order of arrival. */
interface Seen {
  method: string
  target: string
  headers: IncomingMessage['headers']
  /** `undefined` if the app did not read it. */
  body: string | undefined
}

interface Stack {
  port: number
  seen: Seen[]
}

const answerWithinMs = 30_000
/** What the edge itself asks of the app. */
const ofEdge = /^\/(readyz$|-\/edge\/)/

/** Rung's own HTTP server, with what the parser of Node took for requests. `body` gets its address. */
async function withApp(body: (address: string, seen: Seen[]) => Promise<void>): Promise<void> {
  const http = await createHttp({
    logger: createLog('test', 'silent'),
    revealing: false,
    trustProxy: ['loopback'],
  })
  const seen: Seen[] = []
  const known = new WeakMap<IncomingMessage, Seen>()
  const arrived = (message: unknown) => {
    const { request, server } = message as { request: IncomingMessage; server: unknown }
    const { method = '', url: target = '', headers } = request
    if (server !== http.server || ofEdge.test(target)) return
    const one: Seen = { method, target, headers, body: undefined }
    seen.push(one)
    known.set(request, one)
  }
  http.addContentTypeParser('*', { parseAs: 'string' }, (_request, text, done) => done(null, text))
  http.get('/readyz', () => 'ready')
  http.get('/page/:id', ({ protocol, host, url, ip, method }, reply) =>
    reply.header('cache-control', 'public, s-maxage=60').send(`${method} ${protocol}://${host}${url} for ${ip}`),
  )
  http.post('/refused/:id', { onRequest: async (_request, reply) => reply.status(403).send('refused') }, () => 'never')
  http.all('/*', ({ raw, method, url, headers, body }) => {
    const one = known.get(raw)
    if (one && method !== 'GET' && method !== 'HEAD') one.body = typeof body === 'string' ? body : ''
    return { method, url, headers, body }
  })
  channel('http.server.request.start').subscribe(arrived)
  try {
    const url = await http.listen({ host: '127.0.0.1', port: 0 })
    await body(url.replace('http://', ''), seen)
  } finally {
    channel('http.server.request.start').unsubscribe(arrived)
    await http.close()
  }
}

/** Writes the bytes and an honest request behind them, and returns all that is heard until the connection is closed. */
function converse(port: number, { bytes, ends, name }: RawRequest, marker: string, behind: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const [first, second] = [bytes].flat().map((part) => Buffer.from(part.replaceAll('ID', marker), 'latin1'))
    let heard = ''
    const socket = connect(port, '127.0.0.1', () => {
      socket.write(first!)
      if (ends) socket.end()
      else if (!second) socket.write(behind)
    })
    socket.setTimeout(answerWithinMs, () => {
      reject(new Error(`${name}: still open; heard ${JSON.stringify(heard.slice(0, 500))}`))
      socket.destroy()
    })
    socket.setEncoding('latin1')
    socket.on('data', (data) => {
      if (heard === '' && second) socket.write(Buffer.concat([second, Buffer.from(behind)]))
      heard += data
    })
    socket.on('error', () => {}) // a reset is one way to close; what was heard before it counts
    socket.on('close', () => resolve(heard))
  })
}

interface Honest {
  status: number
  text: string
  cache: string
}

function ask(port: number, target: string, agent?: Agent): Promise<Honest> {
  return new Promise((resolve, reject) => {
    const headers = { host: 'app', 'x-own': target }
    const sent = request({ host: '127.0.0.1', port, path: target, headers, agent: agent ?? false }, (answer) => {
      let text = ''
      answer.setEncoding('utf8').on('data', (data) => {
        text += data
      })
      answer.on('end', () => {
        resolve({ status: answer.statusCode!, text, cache: String(answer.headers['x-cache']) })
      })
      answer.on('error', reject)
    })
    sent.setTimeout(answerWithinMs, () => sent.destroy(new Error(`${target} was not answered`)))
    sent.on('error', reject).end()
  })
}

const told = ({ method, target, body }: Seen) => `${method} ${target}${body ? ` ${body}` : ''}`
/** Headers that an honest request has when it arrives. Anything else was somebody else's. */
const honestHeaders = [
  ...['connection', 'forwarded', 'host', 'x-forwarded-for', 'x-forwarded-host', 'x-forwarded-proto', 'x-own'],
  ...['x-request-id', 'x-rung-page', 'x-rung-purges'],
]

let cases = 0

/** Sends one of them, and holds it against what must be so for each. @returns how many requests of it the app saw */
async function judge({ port, seen }: Stack, agent: Agent, raw: RawRequest): Promise<number> {
  cases += 1
  const marker = (cases + 36).toString(36)
  assert.equal(marker.length, markerLength)
  const own = (text: string) => text.replaceAll('ID', marker)
  const behind = `/behind/${marker}`
  const from = seen.length
  const heard = await converse(
    port,
    raw,
    marker,
    `GET ${behind} HTTP/1.1\r\nhost: app\r\nx-own: ${behind}\r\nconnection: close\r\n\r\n`,
  )
  // On connections that were open before, and on a new one, each of which uses a connection to the app that this request may have used.
  const others = ['one', 'two', 'new'].map((name) => `/honest/${marker}/${name}`)
  const answers = await Promise.all(others.map((target, at) => ask(port, target, at < 2 ? agent : undefined)))
  const pages = [await ask(port, `/page/${marker}`), await ask(port, `/page/${marker}`)]

  const what = `${raw.name}: heard ${JSON.stringify(heard.slice(0, 400))}`
  const mine = seen.slice(from)
  const isHonest = ({ target }: Seen) => target === behind || others.includes(target)
  const asked = [...others, ...(mine.some(({ target }) => target === behind) ? [behind] : [])]
  for (const target of asked) {
    const [one, more] = mine.filter((each) => each.target === target)
    assert.ok(one && !more && one.method === 'GET', `${what}: ${target} arrived once, as it was sent`)
    assert.equal(one.headers['x-own'], target, what)
    const strange = Object.keys(one.headers).filter((header) => !honestHeaders.includes(header))
    assert.deepEqual(strange, [], `${what}: headers of ${target}`)
  }
  for (const [at, { status, text }] of answers.entries()) {
    assert.equal(status, 200, what)
    assert.equal(JSON.parse(text).url, others[at], `${what}: an answer to another request`)
  }
  for (const { status, text } of pages) {
    assert.deepEqual(
      [status, text],
      [200, `GET http://app/page/${marker} for 127.0.0.1`],
      `${what}: the page is another one`,
    )
  }
  assert.equal(pages[1]!.cache, 'HIT', `${what}: the page is not kept`)

  // The page was asked for after all: at most one fetch of it is not of this case.
  const rest = mine.filter((one) => !isHonest(one))
  const last = rest.at(-1)
  if (last && told(last) === `GET /page/${marker}` && last.headers['x-own'] === `/page/${marker}`) rest.pop()
  const allowed = raw.seen.map(own)
  for (const [at, one] of rest.entries()) {
    const line = told(one)
    const expected = allowed[at]
    const isSame = expected === line || (one.body === undefined && expected?.startsWith(`${line} `))
    assert.ok(isSame, `${what}: the app saw ${JSON.stringify(line)}, and may see ${JSON.stringify(expected)}`)
    assert.equal(one.headers['x-forwarded-for'], '127.0.0.1', what)
    assert.equal(one.headers['x-forwarded-host'], one.headers.host, what)
    assert.ok(one.headers.forwarded === undefined || one.headers.forwarded === '', what)
    assert.doesNotMatch(String(one.headers['x-rung-page'] ?? ''), /^0{32}/, what)
  }
  if (raw.whole) assert.equal(rest.length, allowed.length, `${what}: all of it arrives`)
  if (!raw.ends && !raw.name.includes('HTTP/0.9')) {
    const statuses = [...heard.matchAll(/HTTP\/1\.[01] [2-5]\d\d[^\r\n]*\r\n/g)]
    const behindToo = asked.includes(behind) ? 1 : 0
    assert.ok(statuses.length >= rest.length + behindToo, `${what}: fewer answers than requests that the app saw`)
    if (behindToo) assert.ok(heard.includes(`"url":"${behind}"`), `${what}: no answer to the request behind it`)
  }
  return rest.length
}

async function judgeAll(stack: Stack): Promise<void> {
  const agent = new Agent({ keepAlive: true, maxSockets: 2 })
  const failures: unknown[] = []
  let requests = 0
  cases = 0
  try {
    for (const raw of rawRequests) {
      requests += await judge(stack, agent, raw).catch((error) => {
        failures.push(error)
        return 0
      })
    }
  } finally {
    agent.destroy()
  }
  if (failures.length > 0) throw new AggregateError(failures, failures.map(String).join('\n'))
  assert.ok(requests > 100, `the app saw ${requests} of them`)
}

/** A proxy with a fault: it removes any header that the client's Connection names, and what was a body becomes a request. */
async function withObedientProxy(port: number, body: (port: number) => Promise<void>): Promise<void> {
  const proxy = createServer((client) => {
    const server = connect(port, '127.0.0.1')
    client.on('data', (data) => {
      const text = data.toString('latin1')
      const isNamed = /^connection:.*content-length/im.test(text)
      server.write(isNamed ? text.replace(/^content-length:.*\r\n/im, '') : data)
    })
    client.on('close', () => server.destroy()).on('error', () => {})
    server.on('error', () => {}).pipe(client)
  })
  proxy.listen(0, '127.0.0.1')
  await once(proxy, 'listening')
  try {
    await body((proxy.address() as AddressInfo).port)
  } finally {
    proxy.close()
  }
}

describe('requests that two servers may read in two ways', { skip: noNginx }, () => {
  it('are many', () => {
    assert.ok(rawRequests.length >= 100)
    assert.equal(new Set(rawRequests.map(({ name }) => name)).size, rawRequests.length)
  })

  it('through nginx: the app sees what was sent, and nobody else is harmed', () =>
    withApp(async (address, seen) => {
      const edge = await testPageCache([address], { workers: 1 })
      try {
        const port = Number(new URL(edge.server.url).port)
        await judgeAll({ port, seen })
        await withObedientProxy(port, async (port) => {
          const agent = new Agent({ keepAlive: true, maxSockets: 2 })
          const caught = rawRequests.find(({ name }) => name === 'length: taken away by Connection')!
          await assert.rejects(judge({ port, seen }, agent, caught), /the app saw "POST \/echo\/..", and may see/)
          agent.destroy()
        })
      } finally {
        await edge.stop()
      }
    }))

  it('through nginx and HAProxy', { skip: noHaproxy }, () =>
    withApp((address, seen) =>
      withTempDir(async (dir) => {
        const balancer = await startOn(dir, [{ name: 'web-1', address }], { isEntry: false, threads: 1 })
        const edge = await testPageCache([balancer.url.replace('http://', '')], { workers: 1 })
        try {
          await judgeAll({ port: Number(new URL(edge.server.url).port), seen })
        } finally {
          await edge.stop()
          await balancer.stop()
        }
      }),
    ),
  )
})
