import { type ConnectionConfig, listen } from '../../engines/postgres/client.ts'
import { after, sleep } from '../../kernel/clock.ts'
import { backoffMs } from '../../kernel/random.ts'
import type { Database } from '../data/contract.ts'
import { compile, sql } from '../data/sql.ts'
import { tellTrouble } from './channels.ts'
import type { Bell } from './contract.ts'

const channelName = 'rung_jobs'
/** However much is pushed, so often at most: a NOTIFY takes a lock that all of them share. */
const ringEveryMs = 5
const payloadBytesMax = 7_900
const reconnectMs = { base: 200, max: 5_000 }

export function notifyBell(database: Database, connection: ConnectionConfig): Bell {
  const ended = new AbortController()
  const queues = new Set<string>()
  let waiting = false
  let sending: Promise<void> | undefined
  let listening: Promise<void> | undefined

  async function send(): Promise<void> {
    const text = [...queues].join('\n')
    queues.clear()
    try {
      const held = await database.connect('write', Number.POSITIVE_INFINITY)
      const payload = Buffer.byteLength(text) > payloadBytesMax ? '' : text
      await held.run(compile(sql`select pg_notify(${channelName}, ${payload})`)).finally(() => held.release())
    } catch (error) {
      tellTrouble({ database, event: 'notify-failed', error })
    }
  }

  return {
    ring(more) {
      for (const queue of more) queues.add(queue)
      if (waiting || ended.signal.aborted) return
      waiting = true
      sending = send()
      after(ringEveryMs, () => {
        waiting = false
        if (queues.size > 0) this.ring(new Set())
      })
    },
    listen(heard) {
      const failed = (error: unknown) => tellTrouble({ database, event: 'listen-failed', error })
      listening = keepListening(connection, heard, failed, ended.signal)
    },
    async close() {
      ended.abort()
      await Promise.all([sending, listening])
    },
  }
}

async function keepListening(
  connection: ConnectionConfig,
  heard: (queues?: ReadonlySet<string>) => void,
  failed: (error: unknown) => void,
  signal: AbortSignal,
): Promise<void> {
  for (let failures = 0; !signal.aborted; failures += 1) {
    try {
      const line = await listen(connection, channelName, (text) =>
        heard(text === '' ? undefined : new Set(text.split('\n'))),
      )
      failures = 0
      heard() // what was rung while nobody listened
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
