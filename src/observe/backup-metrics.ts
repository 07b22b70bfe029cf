import {
  type Archived,
  archived,
  type BackupFailed,
  type BaseTaken,
  backupFailed,
  baseTaken,
} from '../backup/channels.ts'
import type { Figures } from './figures.ts'

/**
 * Observes the backups into one directory. Figures are times, so that an alert compares them with now:
 * `time() - backup_archived_timestamp_seconds > 5`.
 * @param backupDir a real path
 * @returns a function that ends it
 */
export function observeBackups(backupDir: string, figures: Figures): () => void {
  const archivedUntil = figures.gauge(
    'backup_archived_timestamp_seconds',
    'Everything committed until then is safe in the archive.',
  )
  const lastBase = figures.gauge('backup_base_timestamp_seconds', 'End of the last base backup that this process took.')
  const failures = figures.counter(
    'backup_failures_total',
    'Failures of the archive or a base backup; both are retried.',
  )
  const handlers = [
    [archived, ({ at }: Archived) => archivedUntil.set(at / 1000)],
    [baseTaken, ({ finishedAt }: BaseTaken) => lastBase.set(finishedAt / 1000)],
    [backupFailed, (_: BackupFailed) => failures.inc()],
  ] as const
  const ends = handlers.map(([channel, handle]) => {
    const listener = (message: unknown) => {
      if ((message as { backupDir: string }).backupDir === backupDir) handle(message as never)
    }
    channel.subscribe(listener)
    return () => channel.unsubscribe(listener)
  })
  return () => {
    for (const end of ends) end()
  }
}
