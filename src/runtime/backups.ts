import path from 'node:path'
import { openBucket } from '../backup/bucket.ts'
import { folderPlace } from '../backup/folder.ts'
import type { BackupSource } from '../backup/keep.ts'
import type { Place } from '../backup/place.ts'
import { RungError } from '../kernel/errors.ts'
import { ownBackupDir, type ToolBindings } from '../topology/bindings.ts'
import { rootFile } from './secrets.ts'
import type { DatabaseServer } from './wire.ts'

/** Where a backup is made and read unless somebody says otherwise: the configured directory, or one beside the data. */
export function backupDirOrOwn(bindings: ToolBindings): string {
  return bindings.backup.dir ?? ownBackupDir(bindings.dataDir)
}

/** The value of `--from` that names the bucket. */
const bucketWord = 's3'

/** Where backups are read: in the folder that `--from` names, or in the bucket. @throws CONFIG_INVALID without a bucket */
export function backupPlace(bindings: ToolBindings, from: unknown, cwd: string): Place {
  if (from !== bucketWord)
    return folderPlace(typeof from === 'string' ? path.resolve(cwd, from) : backupDirOrOwn(bindings))
  if (bindings.backup.bucket) return openBucket(bindings.backup.bucket)
  throw new RungError(
    'CONFIG_INVALID',
    'No bucket is set. Set RUNG_BACKUP_S3_URL to it, and RUNG_BACKUP_KEY to the key of its backups. A folder of this name is ./s3.',
  )
}

/** What a backup of this process's database needs to know. */
export function backupSource(bindings: ToolBindings, server: DatabaseServer, backupDir: string): BackupSource {
  const { bucket } = bindings.backup
  return {
    primary: async () => ({ ...server.adminConnection, host: (await server.primary()).host, database: 'postgres' }),
    backupDir,
    alongside: [rootFile(bindings.dataDir)],
    keep: bindings.backup.keep,
    outside: bucket && { ...bucket, bucket: openBucket(bucket) },
  }
}

/** @throws BACKUP_UNSUPPORTED for a Postgres that Rung does not run */
export function refuseExternal({ data }: ToolBindings): void {
  if (data.engine === 'embedded') return
  throw new RungError(
    'BACKUP_UNSUPPORTED',
    'DATABASE_URL names a Postgres that Rung does not run: its files are not at hand, and Rung restores only what its own Postgres wrote. Use the point-in-time recovery of whoever runs it, or pgBackRest, WAL-G or pg_basebackup.',
  )
}
