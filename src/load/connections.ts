import { connect, type Socket } from 'node:net'
import { after } from '../kernel/clock.ts'

/** Why there is no answer. */
export type Failure = 'timeout' | 'refused' | 'broken' | 'malformed' | 'dropped'

export class NoAnswer extends Error {
  readonly failure: Failure

  constructor(failure: Failure, cause?: unknown) {
    super(`There is no answer: ${failure}.`, { cause })
    this.failure = failure
  }
}

export interface Answer {
  readonly status: number
  readonly body: Buffer
  /** Returns the value of a header; several of one name are joined by line feeds. */
  header(name: string): string | undefined
  /** Returns the body, parsed. @throws SyntaxError */
  json<Value = unknown>(): Value
}

/**
 * HTTP/1.1 connections to one server, kept alive. One request at a time on each, and none is sent twice. Raw sockets: `fetch` costs six times
 * the CPU, which would be the machine's that is measured.
 */
export interface Connections {
  /**
   * Sends a request as it stands.
   * @throws NoAnswer
   */
  send(request: Buffer, timeoutMs: number, isHead: boolean): Promise<Answer>
  /** How many requests had to wait because all connections were in use. */
  readonly waited: number
  close(): void
}

interface Pending {
  request: Buffer
  isHead: boolean
  resolve(answer: Answer): void
  reject(error: NoAnswer): void
  endTimer(): void
}

export function openConnections(host: string, port: number, connectionsMax: number): Connections {
  const idle: Connection[] = []
  const all = new Set<Connection>()
  const waiting: Pending[] = []
  let waited = 0

  function start(pending: Pending): void {
    const free = idle.pop()
    if (free) free.send(pending)
    else if (all.size < connectionsMax) all.add(new Connection(host, port, pending, onFree, onGone))
    else {
      waited += 1
      waiting.push(pending)
    }
  }

  function onFree(connection: Connection): void {
    const next = waiting.shift()
    if (next) connection.send(next)
    else idle.push(connection)
  }

  function onGone(connection: Connection): void {
    all.delete(connection)
    const at = idle.indexOf(connection)
    if (at >= 0) idle.splice(at, 1)
    const next = waiting.shift()
    if (next) start(next)
  }

  return {
    send: (request, timeoutMs, isHead) =>
      new Promise((resolve, reject) => {
        const endTimer = after(timeoutMs, () => {
          const at = waiting.indexOf(pending)
          if (at >= 0) waiting.splice(at, 1)
          for (const connection of all) if (connection.pending === pending) connection.end('timeout')
          if (at >= 0) reject(new NoAnswer('timeout'))
        })
        const pending: Pending = { request, isHead, resolve, reject, endTimer }
        start(pending)
      }),
    get waited() {
      return waited
    },
    close() {
      for (const connection of [...all]) connection.end('dropped')
    },
  }
}

const headMax = 64 * 1024
const headEnd = Buffer.from('\r\n\r\n')

class Connection {
  pending: Pending | undefined
  readonly #socket: Socket
  readonly #onFree: (connection: Connection) => void
  readonly #onGone: (connection: Connection) => void
  #received: Buffer = Buffer.alloc(0)
  #gone = false

  constructor(
    host: string,
    port: number,
    pending: Pending,
    onFree: (connection: Connection) => void,
    onGone: (connection: Connection) => void,
  ) {
    this.#onFree = onFree
    this.#onGone = onGone
    this.#socket = connect({ host, port, noDelay: true })
    this.#socket.on('data', (bytes) => this.#receive(bytes))
    this.#socket.on('error', (error: NodeJS.ErrnoException) =>
      this.end(error.code === 'ECONNREFUSED' ? 'refused' : 'broken', error),
    )
    this.#socket.on('end', () => this.#receive(undefined))
    this.#socket.on('close', () => this.end('broken'))
    this.send(pending)
  }

  send(pending: Pending): void {
    this.pending = pending
    this.#socket.write(pending.request)
  }

  /** Ends the connection; what waits for its answer gets none. */
  end(failure: Failure, cause?: unknown): void {
    if (this.#gone) return
    this.#gone = true
    this.#socket.destroy()
    const pending = this.pending
    this.pending = undefined
    pending?.endTimer()
    pending?.reject(new NoAnswer(failure, cause))
    this.#onGone(this)
  }

  /** `undefined` is the end of the stream. */
  #receive(bytes: Buffer | undefined): void {
    if (!this.pending) {
      this.end(bytes ? 'malformed' : 'broken')
      return
    }
    if (bytes) this.#received = this.#received.length === 0 ? bytes : Buffer.concat([this.#received, bytes])
    let parsed: Parsed | undefined
    try {
      parsed = parseAnswer(this.#received, this.pending.isHead, bytes === undefined)
    } catch (error) {
      this.end('malformed', error)
      return
    }
    if (!parsed) {
      if (!bytes) this.end('broken')
      return
    }
    const { pending } = this
    this.pending = undefined
    pending.endTimer()
    this.#received = Buffer.alloc(0)
    if (parsed.isLast || parsed.rest > 0) this.end('broken')
    else this.#onFree(this)
    pending.resolve(parsed)
  }
}

interface Parsed extends Answer {
  /** The server closes the connection after it. */
  isLast: boolean
  /** Bytes behind it, which nobody asked for. */
  rest: number
}

/** Returns the answer if all of it is there. */
function parseAnswer(received: Buffer, isHead: boolean, ended: boolean): Parsed | undefined {
  const end = received.indexOf(headEnd)
  if (end < 0) {
    if (received.length > headMax) throw new Error('the head of an answer does not end')
    return undefined
  }
  const head = received.toString('latin1', 0, end + 2)
  const status = Number(/^HTTP\/1\.[01] (\d{3}) /.exec(head)?.[1])
  if (!status) throw new Error(`not an answer: ${head.slice(0, 40)}`)
  const begin = end + 4
  if (status < 200) return parseAnswer(received.subarray(begin), isHead, ended)
  const header = (name: string) => {
    const found = [...head.matchAll(new RegExp(`\r\n${name}: *([^\r]*)`, 'gi'))]
    return found.length === 0 ? undefined : found.map(([, value]) => value!).join('\n')
  }
  let isLast = /\r\nconnection: close\r/i.test(head)
  let body: Buffer = Buffer.alloc(0)
  let rest = received.length - begin
  const length = /\r\ncontent-length: *(\d+)/i.exec(head)
  if (isHead || status === 204 || status === 304) {
    // no body, whatever the head says
  } else if (/\r\ntransfer-encoding: *chunked/i.test(head)) {
    const chunks = parseChunks(received, begin)
    if (!chunks) return undefined
    body = chunks.body
    rest = received.length - chunks.end
  } else if (length) {
    const size = Number(length[1])
    if (received.length < begin + size) return undefined
    body = received.subarray(begin, begin + size)
    rest -= size
  } else {
    if (!ended) return undefined
    body = received.subarray(begin)
    rest = 0
    isLast = true
  }
  return { status, body, header, json: () => JSON.parse(body.toString()), isLast, rest }
}

function parseChunks(received: Buffer, begin: number): { body: Buffer; end: number } | undefined {
  const parts: Buffer[] = []
  let at = begin
  for (;;) {
    const line = received.indexOf('\r\n', at)
    if (line < 0) return undefined
    const size = Number.parseInt(received.toString('latin1', at, line), 16)
    if (!Number.isInteger(size)) throw new Error('a chunk has no length')
    at = line + 2
    if (size === 0) {
      // Trailers are not looked at.
      if (received.subarray(at, at + 2).equals(Buffer.from('\r\n'))) return { body: Buffer.concat(parts), end: at + 2 }
      const end = received.indexOf(headEnd, at)
      return end < 0 ? undefined : { body: Buffer.concat(parts), end: end + 4 }
    }
    if (received.length < at + size + 2) return undefined
    parts.push(received.subarray(at, at + size))
    at += size + 2
  }
}
