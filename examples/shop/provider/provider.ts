import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { createServer, type IncomingMessage } from 'node:http'
import type { AddressInfo } from 'node:net'
import { text } from 'node:stream/consumers'
import { setTimeout as wait } from 'node:timers/promises'
import type { Charge } from '../payments/provider.ts'
import { signatureOf } from '../payments/signature.ts'

/** A payment provider to try the shop with: real HTTP, its own book, and every fault that real ones have. */
export interface FakeProvider {
  readonly url: string
  /** Its book: charges by the key that they were asked with. */
  readonly charges: ReadonlyMap<string, Charge>
  /** What was taken from customers (positive) and given back (negative), each movement once. */
  readonly movements: readonly { key: string; amount: number }[]
  /** How often it was asked to charge with a key. */
  asked(key: string): number
  sendEventsTo(url: string): void
  /** Sends the events that were held back, the latest first. */
  release(): Promise<void>
  /** Until all events have been taken. */
  idle(): Promise<void>
  stop(): Promise<void>
}

/**
 * How it treats a payment is in the words of its `source`, which are joined by "_":
 * - `declined`: the card has no money
 * - `slow`: answers after 200 ms
 * - `busy`: answers 503 at first, and has done nothing
 * - `lost`: charges, and its first answer is lost; `gone`: its first four are
 * - `early`: its event arrives before its answer; `twice`: each event is sent twice, also at once
 * - `silent`: sends no events; `held`: sends them when it is told to
 */
export async function startProvider({ secret, port = 0 }: { secret: string; port?: number }): Promise<FakeProvider> {
  const charges = new Map<string, Charge>()
  const sources = new Map<string, string>()
  const movements: { key: string; amount: number }[] = []
  const asked = new Map<string, number>()
  const held: string[] = []
  const sending = new Set<Promise<void>>()
  const over = new AbortController()
  let eventsUrl: string | undefined

  const server = createServer(async (request, response) => {
    try {
      const { status, body, isLost } = await answer(request)
      if (isLost) return void request.socket.destroy()
      response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body))
    } catch (error) {
      response.writeHead(500).end(String(error))
    }
  })
  server.listen(port, '127.0.0.1')
  await once(server, 'listening')

  async function answer(request: IncomingMessage): Promise<{ status: number; body: unknown; isLost?: boolean }> {
    if (request.method === 'GET' && request.url === '/charges') return { status: 200, body: [...charges.values()] }
    const [, key, reversal] = /^\/charges\/([\w-]+)(\/reversal)?$/.exec(request.url ?? '') ?? []
    if (request.method !== 'PUT' || key === undefined) return { status: 404, body: {} }
    const { amount, currency, source } = JSON.parse(await text(request)) as Charge & { source?: string }
    if (reversal) {
      const known = charges.get(key)
      if (known === undefined) book(key, { id: randomUUID(), key, amount, currency, status: 'void' })
      else if (known.status === 'captured') book(key, { ...known, status: 'refunded' })
      return { status: 200, body: charges.get(key) }
    }
    const nth = (asked.get(key) ?? 0) + 1
    asked.set(key, nth)
    const words = (source ?? '').split('_')
    sources.set(key, source ?? '')
    if (words.includes('busy') && nth === 1) return { status: 503, body: {} }
    const known = charges.get(key)
    if (known && (known.amount !== amount || known.currency !== currency)) return { status: 409, body: {} }
    if (!known) {
      const status = words.includes('declined') ? 'declined' : 'captured'
      const sent = book(key, { id: randomUUID(), key, amount, currency, status })
      if (words.includes('early')) await sent
    }
    if (words.includes('slow')) await wait(200)
    const lost = words.includes('gone') ? 4 : words.includes('lost') ? 1 : 0
    return { status: 200, body: charges.get(key), isLost: nth <= lost }
  }

  /** Writes a charge into the book, and tells the shop. */
  function book(key: string, charge: Charge): Promise<void> {
    charges.set(key, charge)
    if (charge.status === 'captured') movements.push({ key, amount: charge.amount })
    if (charge.status === 'refunded') movements.push({ key, amount: -charge.amount })
    const words = (sources.get(key) ?? '').split('_')
    const event = JSON.stringify({ id: `evt_${randomUUID()}`, type: `charge.${charge.status}`, charge })
    if (words.includes('silent')) return Promise.resolve()
    if (words.includes('held')) {
      held.push(event)
      return Promise.resolve()
    }
    return Promise.all((words.includes('twice') ? [event, event] : [event]).map(send)).then(() => {})
  }

  function send(event: string): Promise<void> {
    const one = deliver(event).finally(() => sending.delete(one))
    sending.add(one)
    return one
  }

  /** Again and again, until the shop has taken it. */
  async function deliver(event: string): Promise<void> {
    for (let pauseMs = 20; eventsUrl !== undefined && !over.signal.aborted; pauseMs = Math.min(500, pauseMs * 2)) {
      const headers = { 'content-type': 'application/json', signature: signatureOf(secret, event) }
      const taken = await fetch(eventsUrl, { method: 'POST', headers, body: event, signal: over.signal }).then(
        async (response) => {
          await response.arrayBuffer()
          return response.ok
        },
        () => false,
      )
      if (taken) return
      await wait(pauseMs, undefined, { signal: over.signal }).catch(() => {})
    }
  }

  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    charges,
    movements,
    asked: (key) => asked.get(key) ?? 0,
    sendEventsTo(url) {
      eventsUrl = url
    },
    async release() {
      for (const event of held.splice(0).reverse()) await send(event)
    },
    async idle() {
      while (sending.size > 0) await Promise.all(sending)
    },
    async stop() {
      over.abort()
      server.closeAllConnections()
      server.close()
      await Promise.all(sending)
    },
  }
}
