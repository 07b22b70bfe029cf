import type { Consumption, NatsClient, StreamSettings } from '../../engines/nats/client.ts'
import { sleep } from '../../kernel/clock.ts'
import { isRungError } from '../../kernel/errors.ts'
import type { Broker, Chain, LoggedEvent, Received, Receiver } from './contract.ts'

export interface JetstreamOptions {
  /** The name of the app, whose events have a stream of their own. */
  app: string
  bytesMax: number
  /** What is older than this is removed, taken or not, ms. */
  ageMsMax: number
  /** On how many nodes each message is stored. */
  replicas: number
}

/** Longer than a batch of deliveries takes: a message that comes again does no harm. */
const ackWaitMs = 10_000
const pendingMax = 5_000
const retryMs = 250
/** Room for a message's headers. */
const headerBytes = 1_024

/**
 * A stream of all events of an app, with a subject for each event, `rung-shop.main.orders.placed`, and a durable consumer for each database.
 * An event that is larger than the server admits is left out: it is read from the log, like all that is missing.
 */
export function jetstreamBroker(client: NatsClient, { app, bytesMax, ageMsMax, replicas }: JetstreamOptions): Broker {
  const name = wordOf(`rung-${app}`)
  const stream: StreamSettings = { name, subjects: [`${name}.>`], bytesMax, ageMsMax, replicas }
  let ensured: Promise<void> | undefined
  /** Once for each connection, and after each failure: the stream may be gone. */
  function ensure(): Promise<void> {
    ensured ??= client.ensureStream(stream).catch((error) => {
      ensured = undefined
      throw error
    })
    return ensured
  }
  client.onChange(() => {
    ensured = undefined
  })

  return {
    get isUp() {
      return client.isUp
    },
    get trouble() {
      return client.trouble
    },

    async send(chain) {
      try {
        await ensure()
      } catch (trouble) {
        return { stored: 0, trouble }
      }
      let { after } = chain
      const sending = chain.events.map((event) => {
        const text = textOf(chain, after, event)
        after = event.n
        if (Buffer.byteLength(text) + headerBytes > client.bytesMax) return Promise.resolve()
        const subject = `${name}.${wordOf(chain.source)}.${event.name}`
        return client.publish(subject, text, `${chain.source}:${chain.history}:${event.n}`)
      })
      const results = await Promise.allSettled(sending)
      const failed = results.findIndex(({ status }) => status === 'rejected')
      if (failed === -1) return { stored: results.length }
      const trouble = (results[failed] as PromiseRejectedResult).reason
      if (!isRungError(trouble, 'NATS_REFUSED')) ensured = undefined
      return { stored: failed, trouble }
    },

    receive(database, arrived) {
      const waiting: Received[] = []
      const closing = new AbortController()
      let consumption: Consumption | undefined
      async function keepReceiving(): Promise<void> {
        while (!closing.signal.aborted) {
          try {
            await ensure()
            consumption = await client.consume(
              { stream: name, name: wordOf(database), subject: `${name}.>`, ackWaitMs, pendingMax },
              ({ data, ack }) => {
                const chain = chainIn(data)
                if (!chain) return ack() // somebody else's: it would come again and again
                waiting.push({ chain, ack })
                arrived()
              },
            )
            if (closing.signal.aborted) await consumption.close()
            if (await consumption.ended) ensured = undefined
          } catch {
            // The connection tells why.
          }
          await sleep(retryMs, closing.signal).catch(() => {})
        }
      }
      const receiving = keepReceiving()
      const receiver: Receiver = {
        take: (max) => waiting.splice(0, max),
        async close() {
          closing.abort()
          await consumption?.close()
          await receiving
        },
      }
      return receiver
    },

    close: () => client.close(),
  }
}

function wordOf(name: string): string {
  return name.replace(/[^\w-]/g, '_')
}

/** The payload is JSON within JSON, so that programs that know nothing of Rung can read it. */
function textOf({ source, history, place }: Chain, after: number, event: LoggedEvent): string {
  const { n, name, key, context, payload } = event
  const head = JSON.stringify({ source, history, place, after, n, name, key, context })
  return `${head.slice(0, -1)},"payload":${payload}}`
}

function chainIn(text: string): Chain | undefined {
  try {
    const { source, history, place, after, n, name, key, context, payload } = JSON.parse(text)
    const isOurs = Number.isSafeInteger(after) && Number.isSafeInteger(n) && after < n && typeof name === 'string'
    if (!isOurs || typeof source !== 'string' || typeof history !== 'string') return undefined
    return { source, history, place, after, events: [{ n, name, key, context, payload: JSON.stringify(payload) }] }
  } catch {
    return undefined
  }
}
