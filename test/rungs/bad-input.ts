import assert from 'node:assert/strict'
import { connect, type Socket } from 'node:net'
import { afterEach, describe, it } from 'node:test'

export interface BadInputTarget {
  host: string
  port: number
  /** How long the app waits for the end of a request's headers. */
  headersTimeoutMs: number
  /** How long it waits for the end of a whole request; without it, a body that never ends is not waited for. */
  requestTimeoutMs?: number
}

const answerWithinMs = 30_000
/** A server may look for late requests no more often than this. */
const lookedForEveryMs = 30_000
const crlf = '\r\n'

const head = (lines: string[]) => [...lines, '', ''].join(crlf)
const get = (...headers: string[]) => head(['GET /healthz HTTP/1.1', 'host: localhost', ...headers])
const post = (body: string, ...headers: string[]) =>
  head(['POST /api/users HTTP/1.1', 'host: localhost', 'content-type: application/json', ...headers]) + body

/** Requests that must be refused with 400, for what they say or how. */
const malformed: Record<string, string | Buffer> = {
  'no HTTP at all': 'GARBAGE\r\n\r\n',
  'a greeting': 'hello there\r\n\r\n',
  'a TLS handshake': Buffer.from('16030100c8010000c40303a1b2c3d4e5f60718', 'hex'),
  'bytes of no meaning': Buffer.from(Array.from({ length: 256 }, (_, index) => (index * 151 + 255) % 256)),
  'a method in lower case': head(['get /healthz HTTP/1.1', 'host: localhost']),
  'a method of no meaning': head(['MAKE /healthz HTTP/1.1', 'host: localhost']),
  'another protocol': head(['GET /healthz HTCPCP/1.0', 'host: localhost']),
  'another version': head(['GET /healthz HTTP/9.9', 'host: localhost']),
  'no path': head(['GET HTTP/1.1', 'host: localhost']),
  'no host': head(['GET /healthz HTTP/1.1']),
  'a path with a line break': 'GET /health\nz HTTP/1.1\r\nhost: localhost\r\n\r\n',
  'a header without colon': get('no colon here'),
  'a header without name': get(': value'),
  'a space before the colon': get('x-name : value'),
  'a space in a name': get('x name: value'),
  'a zero in a name': get('x-\0name: value'),
  'a zero in a value': get('x-name: va\0lue'),
  'a carriage return in a value': get('x-name: va\rlue'),
  'a length that is no number': post('{}', 'content-length: two'),
  'a negative length': post('{}', 'content-length: -2'),
  'a length with a sign': post('{}', 'content-length: +2'),
  'a length in hexadecimal': post('{}', 'content-length: 0x2'),
  'a length beyond all bounds': post('{}', 'content-length: 99999999999999999999999'),
  'two lengths': post('{}', 'content-length: 2', 'content-length: 3'),
  'two lengths in one': post('{}', 'content-length: 2, 3'),
  'a length and chunks': post('2\r\n{}\r\n0\r\n\r\n', 'content-length: 12', 'transfer-encoding: chunked'),
  'chunks and a length': post('2\r\n{}\r\n0\r\n\r\n', 'transfer-encoding: chunked', 'content-length: 12'),
  'an encoding after the chunks': post('0\r\n\r\n', 'transfer-encoding: chunked, identity'),
  'an encoding almost like chunks': post('0\r\n\r\n', 'transfer-encoding: xchunked'),
  'a chunk of no size': post('zz\r\n{}\r\n0\r\n\r\n', 'transfer-encoding: chunked'),
  'a chunk of negative size': post('-2\r\n{}\r\n0\r\n\r\n', 'transfer-encoding: chunked'),
  'a chunk beyond all bounds': post('fffffffffffffffffffff\r\n{}\r\n', 'transfer-encoding: chunked'),
  'a chunk longer than it says': post('1\r\n{}\r\n0\r\n\r\n', 'transfer-encoding: chunked'),
}

/** What no HTTP client would send, over bare sockets. Each time the server goes on to answer others. */
export function badInput(target: () => BadInputTarget): void {
  describe('bad input', () => {
    afterEach(async () => {
      const { host, port } = target()
      const signal = AbortSignal.timeout(answerWithinMs)
      const response = await fetch(`http://${host.includes(':') ? `[${host}]` : host}:${port}/healthz`, { signal })
      assert.equal(response.status, 200, 'not healthy afterwards')
      await response.arrayBuffer()
    })

    for (const [name, bytes] of Object.entries(malformed)) {
      it(`with ${name} is refused and the connection closed`, async () => {
        const heard = await untilClosed(target(), (socket) => socket.write(bytes))
        assert.deepEqual(statusesIn(heard), [400], heard)
      })
    }

    it('with more than 16 KiB of headers is refused', async () => {
      const floods = [
        get(`x-flood: ${'x'.repeat(20_000)}`),
        get(...Array.from({ length: 400 }, (_, index) => `x-flood-${index}: ${'x'.repeat(50)}`)),
        get(`${'x'.repeat(20_000)}: 1`),
        get(`cookie: ${'a=b; '.repeat(5000)}`),
        head([`GET /${'x'.repeat(20_000)} HTTP/1.1`, 'host: localhost']),
      ]
      for (const flood of floods) {
        const heard = await untilClosed(target(), (socket) => socket.write(flood))
        assert.deepEqual(statusesIn(heard), [431], heard)
      }
    })

    it('with a flood of headers that never ends is refused', async () => {
      const heard = await untilClosed(target(), (socket) => {
        socket.write('GET /healthz HTTP/1.1\r\nhost: localhost\r\n')
        const more = () => {
          if (!socket.destroyed && socket.writable) socket.write(`x: ${'x'.repeat(1000)}\r\n`, () => setImmediate(more))
        }
        more()
      })
      assert.deepEqual(statusesIn(heard).slice(0, 1), heard === '' ? [] : [431], heard)
    })

    it('with a thousand small headers is answered or refused', async () => {
      const small = get(...Array.from({ length: 1000 }, (_, index) => `h${index}: 1`), 'connection: close')
      const [status = 0] = statusesIn(await untilClosed(target(), (socket) => socket.write(small)))
      assert.ok([200, 400, 431].includes(status), `answered ${status}`)
      const same = get(...Array.from({ length: 1000 }, () => 'h: 1'), 'connection: close')
      const [again = 0] = statusesIn(await untilClosed(target(), (socket) => socket.write(same)))
      assert.ok([200, 400, 431].includes(again), `answered ${again}`)
    })

    it('that stops within its headers is closed by the header timeout', async () => {
      const { headersTimeoutMs } = target()
      const halves = ['GET /healthz HT', get().slice(0, -2), `${get().slice(0, -4)}\r\nx-half: `]
      const closeWithinMs = 2 * headersTimeoutMs + lookedForEveryMs
      const all = halves.map((half) => untilClosed(target(), (socket) => socket.write(half), closeWithinMs))
      for (const heard of await Promise.all(all)) {
        assert.ok(heard === '' || [408, 400].includes(statusesIn(heard)[0]!), heard)
      }
    })

    it('that drips its headers is closed by the header timeout', async () => {
      const { headersTimeoutMs } = target()
      const start = (socket: Socket) => {
        socket.write('GET /healthz HTTP/1.1\r\n')
        const drip = setInterval(() => socket.writable && socket.write('a: b\r\n'), headersTimeoutMs / 5)
        socket.once('close', () => clearInterval(drip))
      }
      const heard = await untilClosed(target(), start, 2 * headersTimeoutMs + lookedForEveryMs)
      assert.ok(heard === '' || [408, 400].includes(statusesIn(heard)[0]!), heard)
    })

    const half = post('{"user":', 'content-length: 100')
    it('that hangs up within its body hurts nobody', async () => {
      for (const hangUp of ['end', 'resetAndDestroy'] as const) {
        await untilClosed(target(), (socket) => socket.write(half, () => socket[hangUp]()))
      }
      await untilClosed(target(), (socket) => {
        socket.end(post('8\r\n{"user":\r\n', 'transfer-encoding: chunked'))
      })
    })

    it('that stops within its body is closed by the request timeout', async (t) => {
      const { requestTimeoutMs } = target()
      if (requestTimeoutMs === undefined) return t.skip('the target names no request timeout')
      const closeWithinMs = 2 * requestTimeoutMs + lookedForEveryMs
      const heard = await untilClosed(target(), (socket) => socket.write(half), closeWithinMs)
      assert.ok(heard === '' || [408, 400].includes(statusesIn(heard)[0]!), heard)
    })

    it('after a good request leaves that one its answer', async () => {
      for (const garbage of ['GARBAGE\r\n\r\n', '\0\0\0\0', get('no colon here')]) {
        const heard = await untilClosed(target(), (socket) => socket.write(get() + garbage))
        const statuses = statusesIn(heard)
        assert.equal(statuses.at(-1), 400, heard)
        assert.ok(statuses.length === 1 || statuses[0] === 200, heard)
      }
    })

    it('hidden in a body stays a body', async () => {
      const hidden = get('connection: close')
      const outer = post(hidden, `content-length: ${hidden.length}`, 'connection: close')
      const heard = await untilClosed(target(), (socket) => socket.write(outer))
      const statuses = statusesIn(heard)
      assert.equal(statuses.length, 1, heard)
      assert.ok(statuses[0]! >= 400 && statuses[0]! < 500, heard)
    })

    it('is told apart from requests sent in one go, which are answered in their order', async () => {
      const nowhere = head(['GET /api/nowhere HTTP/1.1', 'host: localhost'])
      const all = [get(), nowhere, get(), post('{}', 'content-length: 2'), get('connection: close')]
      const heard = await untilClosed(target(), (socket) => socket.write(all.join('')))
      assert.deepEqual(statusesIn(heard), [200, 404, 200, 422, 200], heard)
    })

    it('from many sockets that never say a word hurts nobody', async () => {
      const { host, port } = target()
      const sockets = await Promise.all(
        Array.from({ length: 100 }, async () => {
          const socket = connect(port, host)
          socket.on('error', () => {})
          await new Promise((resolve) => socket.once('connect', resolve))
          return socket
        }),
      )
      const heard = await untilClosed(target(), (socket) => socket.write(get('connection: close')))
      for (const socket of sockets) socket.destroy()
      assert.deepEqual(statusesIn(heard), [200], heard)
    })
  })
}

/** The status of each answer in what a socket has heard. */
function statusesIn(heard: string): number[] {
  return [...heard.matchAll(/HTTP\/1\.[01] (\d{3})[^\r\n]*\r\n/g)].map(([, status]) => Number(status))
}

/** Opens a socket, lets `start` talk, and gives all that was heard until the connection was closed. */
function untilClosed(
  { host, port }: BadInputTarget,
  start: (socket: Socket) => void,
  closeWithinMs = answerWithinMs,
): Promise<string> {
  return new Promise((resolve, reject) => {
    let heard = ''
    let connected = false
    const socket = connect(port, host, () => {
      connected = true
      start(socket)
    })
    const late = setTimeout(() => {
      reject(new Error(`Still open after ${closeWithinMs} ms; heard ${JSON.stringify(heard.slice(0, 500))}`))
      socket.destroy()
    }, closeWithinMs)
    socket.setEncoding('latin1')
    socket.on('data', (data) => {
      heard += data
    })
    // A reset is one way to close; what was heard before it counts.
    socket.on('error', (error) => connected || reject(error))
    socket.on('close', () => {
      clearTimeout(late)
      resolve(heard)
    })
  })
}
