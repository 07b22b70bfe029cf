import {
  type Archived,
  archived,
  type BackupFailed,
  type BaseTaken,
  backupFailed,
  baseTaken,
  type Uploaded,
  uploaded,
} from '../backup/channels.ts'
import type { Figures } from './figures.ts'

/**
 * Observes the backups into one directory. Figures are times, so that an alert compares them with now:
 * `time() - backup_archived_timestamp_seconds > 5`.
 * @param backupDir a real path
 * @param uploads whether it is copied to a bucket
 * @returns a function that ends it
 */
export function observeBackups(backupDir: string, uploads: boolean, figures: Figures): () => void {
  const archivedUntil = figures.gauge(
    'backup_archived_timestamp_seconds',
    'Everything committed until then is safe in the archive.',
  )
  const lastBase = figures.gauge('backup_base_timestamp_seconds', 'End of the last base backup that this process took.')
  const failures = figures.counter(
    'backup_failures_total',
    'Failures of the archive or a base backup; both are retried.',
  )
  const uploadedUntil =
    uploads && figures.gauge('backup_uploaded_timestamp_seconds', 'Everything committed until then is in the bucket.')
  // Nothing was archived in 1970: until something was, they have no value.
  for (const time of [archivedUntil, lastBase, uploadedUntil]) if (time) time.remove()
  const behind = uploads && figures.gauge('backup_behind_bytes', 'Bytes in the folder that the bucket lacks.')
  const handlers = [
    [archived, ({ at }: Archived) => archivedUntil.set(at / 1000)],
    [
      uploaded,
      ({ at, behindBytes }: Uploaded) => {
        if (uploadedUntil) uploadedUntil.set(at / 1000)
        if (behind) behind.set(behindBytes)
      },
    ],
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
