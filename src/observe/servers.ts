import type { ReadRouted, ServerChanged } from '../primitives/data/channels.ts'
import { readRouted, serverChanged } from '../primitives/data/channels.ts'
import type { DataRoot } from '../primitives/data/data.ts'
import type { Http } from '../primitives/http/contract.ts'
import type { Log } from '../runtime/log.ts'
import type { Figures } from './figures.ts'
import { listen } from './listen.ts'

/** Which server answers reads, and how far replicas lag. */
export function serverFigures(http: Http, data: DataRoot, figures: Figures): void {
  if (!data.databases.some(({ lags }) => lags)) return
  const reads = figures.counter('db_reads_total', 'Reads by the server they were sent to, and why.', ['server', 'why'])
  listen<ReadRouted>(http, data, readRouted, ({ server, why }) => reads.inc({ server, why }))
  const replicas = () =>
    data.databases.flatMap((database) => database.servers().map((server) => ({ ...server, database: database.name })))
  const labels = ['database', 'server']
  figures.gauge('db_server_in_rotation', '1 if the replica takes reads of this process.', labels, (gauge) => {
    for (const { database, name: server, inRotation } of replicas()) gauge.set({ database, server }, inRotation ? 1 : 0)
  })
  figures.gauge('db_server_lag_seconds', 'How old what the server shows may be.', labels, (gauge) => {
    for (const { database, name: server, lagMs } of replicas()) gauge.set({ database, server }, lagMs / 1_000)
  })
}

/** Logs when a server leaves the rotation, and when it is back. */
export function serverLog(http: Http, data: DataRoot, log: Log): void {
  const out = new Set<string>()
  listen<ServerChanged>(http, data, serverChanged, ({ database, server }) => {
    const { name, role, inRotation, trouble } = server
    const key = `${database.name} ${name}`
    if (trouble !== undefined && !out.has(key)) {
      out.add(key)
      log.warn({ event: 'server-out', ...server }, `the database server ${name} is not read: ${trouble}`)
    } else if (out.has(key) && (inRotation || role === 'primary')) {
      out.delete(key)
      log.warn({ event: 'server-back', ...server }, `the database server ${name} is used again, as ${role}`)
    }
  })
}
