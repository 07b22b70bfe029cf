import http, { type IncomingMessage } from 'node:http'
import https from 'node:https'
import { text as textOf } from 'node:stream/consumers'
import { after, every, sleep, systemClock } from '../../kernel/clock.ts'
import { backoffMs } from '../../kernel/random.ts'
import type { S3Address } from '../../topology/urls.ts'
import { emptySha256, encodePath, encodeQuery, presignedPath, type Signable, signedHeaders } from './signature.ts'

export interface S3Request {
  method: 'GET' | 'HEAD' | 'PUT' | 'POST' | 'DELETE'
  /** Without one the request is for the bucket. */
  key?: string
  query?: Readonly<Record<string, string>>
  /** Names in lower case. */
  headers?: Readonly<Record<string, string>>
  body?: { bytes: Uint8Array /** In hexadecimal. */; sha256: string }
  /** For one attempt, instead of what is usual for its method. */
  deadlineMs?: number
}

export interface S3Answer {
  readonly status: number
  readonly headers: IncomingMessage['headers']
  readonly text: string
}

/** An answer that is no success, or none at all. It contains no credentials. */
export class S3Failure extends Error {
  /** The store's code, such as `NoSuchKey`; the system's without an answer, such as `ECONNREFUSED`. */
  readonly code: string
  /** 0: there was no answer. */
  readonly status: number
  /** More than 1: an earlier attempt may have been carried out. */
  attempts = 1
  readonly headers: IncomingMessage['headers']

  constructor(
    message: string,
    {
      code,
      status,
      headers = {},
      cause,
    }: Pick<S3Failure, 'code' | 'status'> & Partial<Pick<S3Failure, 'headers' | 'cause'>>,
  ) {
    super(message, cause === undefined ? undefined : { cause })
    this.name = 'S3Failure'
    this.code = code
    this.status = status
    this.headers = headers
  }
}

const attemptsMax = 3
/** For an answer without a body, and for silence within one. */
const callMs = 10_000
/** For 8 MiB up, or a copy of 128 MiB inside the store. */
const slowCallMs = 60_000
const answerBytesMax = 8 * 1024 ** 2

/** Speaks to one bucket. Every request is signed, has a deadline, and is repeated after errors that pass: all are safe to repeat. */
export class S3Client {
  readonly #address: S3Address
  readonly #agent: http.Agent
  /** Without a limit of its own, so that clients that read slowly hold nobody else up. Each belongs to a request of the app, which are limited. */
  readonly #streams: http.Agent

  constructor(address: S3Address) {
    this.#address = address
    const { Agent } = address.tls ? https : http
    const options = { keepAlive: true, maxFreeSockets: 16, scheduling: 'lifo' } as const
    this.#agent = new Agent({ ...options, maxSockets: 64 })
    this.#streams = new Agent(options)
  }

  /** The source of a copy: `/bucket/key`, encoded. */
  sourceOf(key: string): string {
    return encodePath(`/${this.#address.bucket}/${key}`)
  }

  /** @throws S3Failure */
  ask(request: S3Request): Promise<S3Answer> {
    return repeated(async () => {
      const response = await this.#send(request, this.#agent)
      const answer = await readAll(response).catch((error) => {
        throw this.#unanswered(error)
      })
      // A long operation answers 200 first and fails afterwards, in the body.
      if (!answer.text.includes('<Error>')) return answer
      throw failureOf({ ...answer, status: 500 })
    })
  }

  /** Returns an answer whose body is still to be read; it fails after 10 to 20 s of silence. @throws S3Failure */
  open(request: S3Request): Promise<IncomingMessage> {
    return repeated(() => this.#send(request, this.#streams))
  }

  /** Returns a URL that allows a request without other credentials. */
  presigned(request: Pick<S3Request, 'method' | 'key' | 'headers'>, expiresS: number): string {
    const { tls, host } = this.#address
    const path = presignedPath(this.#signable(request), expiresS, this.#address, new Date(systemClock.now()))
    return `${tls ? 'https' : 'http'}://${host}${path}`
  }

  close(): void {
    this.#agent.destroy()
    this.#streams.destroy()
  }

  /** Paths begin with the bucket, because only this form works everywhere. */
  #signable({ method, key, query = {}, headers = {} }: S3Request): Signable {
    const { host, bucket } = this.#address
    return { method, host, path: encodePath(key === undefined ? `/${bucket}` : `/${bucket}/${key}`), query, headers }
  }

  async #send(request: S3Request, agent: http.Agent): Promise<IncomingMessage> {
    const { tls, hostname, port } = this.#address
    const { body } = request
    const signable = this.#signable(request)
    // A GET without content-length, everything else with one: some stores refuse a PUT or POST without it.
    const length = ['PUT', 'POST'].includes(request.method) ? { 'content-length': body?.bytes.length ?? 0 } : {}
    const sha256 = body?.sha256 ?? emptySha256
    const headers = { ...signedHeaders(signable, sha256, this.#address, new Date(systemClock.now())), ...length }
    const query = encodeQuery(signable.query)
    const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>()
    const timeoutMs = request.deadlineMs ?? ('content-length' in length ? slowCallMs : callMs)
    const call = (tls ? https : http).request({
      agent,
      host: hostname,
      port,
      method: request.method,
      path: query === '' ? signable.path : `${signable.path}?${query}`,
      headers,
    })
    const endDeadline = after(timeoutMs, () => call.destroy(timedOut(timeoutMs)))
    call.once('response', resolve)
    call.on('error', reject)
    call.end(body?.bytes)
    try {
      const response = await promise
      watch(response)
      if (response.statusCode! < 300) return response
      throw failureOf(await readAll(response))
    } catch (error) {
      throw error instanceof S3Failure ? error : this.#unanswered(error)
    } finally {
      endDeadline()
    }
  }

  #unanswered(cause: unknown): S3Failure {
    const { code = 'ENONE', message } = cause as NodeJS.ErrnoException
    return new S3Failure(`${this.#address.host} did not answer: ${message || code}`, { code, status: 0, cause })
  }
}

/** Ends a body in which nothing comes any more. Where something has come and is not read yet, the reader is slow, and not the store. */
function watch(response: IncomingMessage): void {
  const { socket } = response
  let before = socket.bytesRead
  const end = every(callMs, () => {
    if (socket.bytesRead === before && response.readableLength === 0) response.destroy(timedOut(callMs))
    before = socket.bytesRead
  })
  response.once('close', end)
}

async function repeated<T>(attempt: () => Promise<T>): Promise<T> {
  for (let attempts = 1; ; attempts += 1) {
    try {
      return await attempt()
    } catch (error) {
      if (!(error instanceof S3Failure)) throw error
      error.attempts = attempts
      if (attempts === attemptsMax || !passes(error)) throw error
      await sleep(backoffMs(attempts, 100, 2_000))
    }
  }
}

/** Whether it may succeed when it is repeated. */
function passes({ status, code }: S3Failure): boolean {
  if (status === 0) return !['ENOTFOUND', 'ECONNREFUSED', 'ETIMEDOUT'].includes(code) && !code.includes('CERT')
  if (['OperationAborted', 'ConditionalRequestConflict', 'RequestTimeout'].includes(code)) return true
  return status === 429 || (status >= 500 && status !== 501 && status !== 507)
}

async function readAll(response: IncomingMessage): Promise<S3Answer> {
  let bytes = 0
  response.on('data', ({ length }: Buffer) => {
    bytes += length
    if (bytes > answerBytesMax) response.destroy(new Error(`The answer has more than ${answerBytesMax} bytes.`))
  })
  const text = await textOf(response)
  return { status: response.statusCode!, headers: response.headers, text }
}

function failureOf({ status, headers, text }: S3Answer): S3Failure {
  const code = elementOf(text, 'Code') ?? `HTTP ${status}`
  const message = elementOf(text, 'Message')
  return new S3Failure(`The store answered ${status} ${code}${message ? `: ${message.slice(0, 300)}` : ''}`, {
    code,
    status,
    headers,
  })
}

function timedOut(ms: number): Error {
  return Object.assign(new Error(`no answer within ${ms / 1000} s`), { code: 'ETIMEDOUT' })
}

const entities: Readonly<Record<string, string>> = { lt: '<', gt: '>', quot: '"', apos: "'", amp: '&' }

/** Returns the text of the first such element of an answer. Answers of S3 have neither attributes that matter nor CDATA. */
export function elementOf(xml: string, name: string): string | undefined {
  return elementsOf(xml, name)[0]
}

export function elementsOf(xml: string, name: string): string[] {
  const found = xml.matchAll(new RegExp(`<${name}(?:\\s[^>]*)?>([\\s\\S]*?)</${name}>`, 'g'))
  return Array.from(found, ([, text]) => unescaped(text!))
}

function unescaped(text: string): string {
  if (text.includes('<')) return text // an element with others inside; each is read for itself
  return text.replace(/&(?:#(\d+)|#x([0-9a-f]+)|(\w+));/gi, (all, decimal, hex, name) => {
    if (name !== undefined) return entities[name] ?? all
    return String.fromCodePoint(decimal === undefined ? Number.parseInt(hex, 16) : Number(decimal))
  })
}
