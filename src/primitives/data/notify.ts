import { type ConnectionConfig, listen } from '../../engines/postgres/client.ts'
import { after, sleep } from '../../kernel/clock.ts'
import { backoffMs } from '../../kernel/random.ts'
import { runAlone } from './alone.ts'
import type { Database } from './contract.ts'
import { sql } from './sql.ts'

/** Words between the processes on one database: coalesced, outside of any transaction, and lost where nobody listens. */
export interface Notifier {
  send(words: Iterable<string>): void
  /** Calls `heard` with what others sent; with nothing where it may have missed some. */
  listen(heard: (words?: ReadonlySet<string>) => void): void
  close(): Promise<void>
}

/** However much is sent, so often at most: a NOTIFY takes a lock that all of them share. */
const sendEveryMs = 5
const payloadBytesMax = 7_900
const reconnectMs = { base: 200, max: 5_000 }

export function notifier(
  database: Database,
  connection: ConnectionConfig,
  channel: string,
  failed: (event: 'notify-failed' | 'listen-failed', error: unknown) => void,
): Notifier {
  const ended = new AbortController()
  const words = new Set<string>()
  let waiting = false
  let sending: Promise<void> | undefined
  let listening: Promise<void> | undefined

  async function flush(): Promise<void> {
    const text = [...words].join('\n')
    words.clear()
    const payload = Buffer.byteLength(text) > payloadBytesMax ? '' : text
    // Its commit waits for no disk: what a crash loses of it nobody would have heard.
    await runAlone(
      database,
      sql`select set_config('synchronous_commit', 'off', true), pg_notify(${channel}, ${payload})`,
    ).catch((error) => failed('notify-failed', error))
  }

  return {
    send(more) {
      for (const word of more) words.add(word)
      if (waiting || ended.signal.aborted) return
      waiting = true
      sending = flush()
      after(sendEveryMs, () => {
        waiting = false
        if (words.size > 0) this.send([])
      })
    },
    listen(heard) {
      const report = (error: unknown) => failed('listen-failed', error)
      listening = keepListening(connection, channel, heard, report, ended.signal)
    },
    async close() {
      ended.abort()
      await Promise.all([sending, listening])
    },
  }
}

async function keepListening(
  connection: ConnectionConfig,
  channel: string,
  heard: (words?: ReadonlySet<string>) => void,
  failed: (error: unknown) => void,
  signal: AbortSignal,
): Promise<void> {
  for (let failures = 0; !signal.aborted; failures += 1) {
    try {
      const line = await listen(connection, channel, (text) =>
        heard(text === '' ? undefined : new Set(text.split('\n'))),
      )
      failures = 0
      heard() // what was sent while nobody listened
      const end = () => line.close()
      signal.addEventListener('abort', end, { once: true })
      if (signal.aborted) end()
      await line.closed.finally(() => signal.removeEventListener('abort', end))
    } catch (error) {
      failed(error)
    }
    await sleep(backoffMs(failures, reconnectMs.base, reconnectMs.max), signal).catch(() => {})
  }
}
