import { type ConnectionConfig, listen } from '../../engines/postgres/client.ts'
import { sleep } from '../../kernel/clock.ts'
import { backoffMs } from '../../kernel/random.ts'
import { runAlone } from '../data/alone.ts'
import type { Database } from '../data/contract.ts'
import { sql } from '../data/sql.ts'
import type { SignalLine } from './contract.ts'

const channel = 'rung_signals'
const reconnectMs = { base: 200, max: 5_000 }

/** Postgres' own NOTIFY, on one connection of this process that listens, to whichever server is the primary. A NOTIFY takes a lock that all of them share. */
export function notifyLine(
  database: Database,
  primary: () => Promise<ConnectionConfig>,
  failed: (error: unknown) => void,
): SignalLine {
  const ended = new AbortController()
  let listening: Promise<void> | undefined

  async function keepListening(heard: (message: string) => void, up: () => void): Promise<void> {
    for (let failures = 0; !ended.signal.aborted; failures += 1) {
      try {
        const line = await listen(await primary(), channel, heard)
        failures = 0
        up() // what was sent while nobody listened
        const end = () => line.close()
        ended.signal.addEventListener('abort', end, { once: true })
        if (ended.signal.aborted) end()
        await line.closed.finally(() => ended.signal.removeEventListener('abort', end))
      } catch (error) {
        failed(error)
      }
      await sleep(backoffMs(failures, reconnectMs.base, reconnectMs.max), ended.signal).catch(() => {})
    }
  }

  return {
    pauseMs: 5,
    bytesMax: 7_900,
    async publish(message) {
      // The commit waits for no disk: a crash loses only what nobody would have heard.
      await runAlone(
        database,
        sql`select set_config('synchronous_commit', 'off', true), pg_notify(${channel}, ${message})`,
      )
    },
    subscribe(heard, up) {
      listening = keepListening(heard, up)
    },
    async close() {
      ended.abort()
      await listening
    },
  }
}
