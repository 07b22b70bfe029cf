import type { ConnectionConfig } from '../../engines/postgres/client.ts'
import type { Database } from '../data/contract.ts'
import { notifier } from '../data/notify.ts'
import { tellCache } from './channels.ts'
import type { Bus } from './contract.ts'

/** The bus where there is no other engine: Postgres' own, after the commit and never in it. */
export function notifyBus(database: Database, connection: ConnectionConfig): Bus {
  const line = notifier(database, connection, 'rung_cache', (_event, error) =>
    tellCache({ database, event: 'bus-failed', error }),
  )
  return {
    ring: (words) => line.send(words.length > 0 ? words : ['new']),
    listen: (heard) => line.listen((words) => heard([...(words ?? [])])),
    close: () => line.close(),
  }
}
