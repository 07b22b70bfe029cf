import type { ConnectionConfig } from '../../engines/postgres/client.ts'
import type { Database } from '../data/contract.ts'
import { notifier } from '../data/notify.ts'
import { tellTrouble } from './channels.ts'
import type { Bell } from './contract.ts'

export function notifyBell(database: Database, connection: ConnectionConfig): Bell {
  const line = notifier(database, connection, 'rung_jobs', (event, error) => tellTrouble({ database, event, error }))
  return { ring: (queues) => line.send(queues), listen: (heard) => line.listen(heard), close: () => line.close() }
}
