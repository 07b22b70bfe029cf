import { sleep, systemClock } from '../kernel/clock.ts'
import type { Random } from '../kernel/random.ts'
import { type Answer, type Connections, NoAnswer } from './connections.ts'

/** One person on one journey. It keeps its cookies, and nothing else. */
export interface Visitor<Data = unknown> {
  /** Counts the journeys of this run, from 0; of all threads together. */
  readonly number: number
  readonly random: Random
  /** What the scenario's `setup` returned. */
  readonly data: Data
  /** Returns one of them, by chance. */
  pick<Item>(items: readonly Item[]): Item
  /** Sends a request, and counts its latency and its failure, if it is one. Rejects if there is no answer. */
  request(method: string, path: string, options?: RequestOptions): Promise<Answer>
  /** Thinks for so many ms. */
  think(ms: number): Promise<void>
  /** Counts a failure `check: what`, and ends the journey, unless the condition holds. */
  check(condition: boolean, what: string): void
}

export interface RequestOptions {
  /** Under which name it is counted. Default: the method and the path. */
  route?: string
  headers?: Readonly<Record<string, string>>
  /** An object is sent as JSON. */
  body?: object | string
  /** Statuses that are not failures. Default: below 400. */
  expected?: readonly number[]
}

/** Where a visitor's requests are counted. */
export interface Tally {
  sent(): void
  answered(route: string, latencyMs: number, failure: string | undefined): void
  /** Of a journey, beside its requests. */
  failed(kind: string): void
}

/** Ends a journey. It is counted already. */
export class JourneyOver extends Error {}

export interface VisitorOptions<Data> {
  number: number
  random: Random
  data: Data
  connections: Connections
  host: string
  timeoutMs: number
  tally: Tally
  /** When its first request is due. Its latency counts from here, as that of people in a queue does. */
  dueAt: number
}

export function createVisitor<Data>(options: VisitorOptions<Data>): Visitor<Data> & { waitedMs(): number } {
  const { connections, host, timeoutMs, tally, number, random, data } = options
  const cookies = new Map<string, string>()
  /** When the next request is due: at once, after the last answer and the time to think. */
  let { dueAt } = options
  let waitedMs = 0

  return {
    number,
    random,
    data,
    pick: (items) => items[Math.floor(random() * items.length)]!,
    async request(method, path, { route = `${method} ${path}`, headers = {}, body, expected } = {}) {
      const begunAt = dueAt
      const count = (failure?: string) => {
        dueAt = systemClock.ticks()
        waitedMs += dueAt - begunAt
        tally.answered(route, dueAt - begunAt, failure)
      }
      const request = requestText(method, path, host, headers, body, cookies)
      // Of its time, what it spent before it was sent is gone.
      const leftMs = Math.max(1, timeoutMs - (systemClock.ticks() - begunAt))
      tally.sent()
      try {
        const answer = await connections.send(request, leftMs, method === 'HEAD')
        keepCookies(cookies, answer)
        const isExpected = expected ? expected.includes(answer.status) : answer.status < 400
        count(isExpected ? undefined : String(answer.status))
        return answer
      } catch (error) {
        count(error instanceof NoAnswer ? error.failure : 'broken')
        throw new JourneyOver('A request has no answer.', { cause: error })
      }
    },
    async think(ms) {
      await sleep(ms)
      dueAt += ms
    },
    check(condition, what) {
      if (condition) return
      tally.failed(`check: ${what}`)
      throw new JourneyOver(what)
    },
    /** The sum of its latencies: its journey without the time to think. */
    waitedMs: () => waitedMs,
  }
}

function requestText(
  method: string,
  path: string,
  host: string,
  headers: Readonly<Record<string, string>>,
  body: object | string | undefined,
  cookies: ReadonlyMap<string, string>,
): Buffer {
  const content = body === undefined || typeof body === 'string' ? body : JSON.stringify(body)
  let head = `${method} ${path} HTTP/1.1\r\nhost: ${host}\r\n`
  for (const [name, value] of Object.entries(headers)) head += `${name}: ${value}\r\n`
  if (cookies.size > 0) head += `cookie: ${Array.from(cookies, ([name, value]) => `${name}=${value}`).join('; ')}\r\n`
  if (typeof body === 'object') head += 'content-type: application/json\r\n'
  if (content !== undefined) head += `content-length: ${Buffer.byteLength(content)}\r\n`
  else if (method !== 'GET' && method !== 'HEAD') head += 'content-length: 0\r\n'
  return Buffer.from(`${head}\r\n${content ?? ''}`)
}

function keepCookies(cookies: Map<string, string>, answer: Answer): void {
  for (const line of answer.header('set-cookie')?.split('\n') ?? []) {
    const [, name, value] = /^([^=;]+)=([^;]*)/.exec(line) ?? []
    if (name === undefined) continue
    if (/; *max-age=0(;|$)/i.test(line)) cookies.delete(name)
    else cookies.set(name, value!)
  }
}
