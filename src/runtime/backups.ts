import path from 'node:path'
import type { BackupSource } from '../backup/keep.ts'
import { RungError } from '../kernel/errors.ts'
import type { ToolBindings } from '../topology/bindings.ts'
import { rootFile } from './secrets.ts'
import type { DatabaseServer } from './wire.ts'

/** The configured backup directory; by default it lies beside the data, where it survives a mistake but not the disk. */
export function backupDirOf(bindings: ToolBindings): string {
  return bindings.backup.dir ?? path.join(bindings.dataDir, 'backups')
}

/** What a backup of this process's database needs to know. */
export function backupSource(bindings: ToolBindings, server: DatabaseServer, backupDir: string): BackupSource {
  return {
    primary: async () => ({ ...server.adminConnection, host: (await server.primary()).host, database: 'postgres' }),
    backupDir,
    alongside: [rootFile(bindings.dataDir)],
    keep: bindings.backup.keep,
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
