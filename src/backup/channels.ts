import diagnostics from 'node:diagnostics_channel'

/** Events for observers. `backupDir` distinguishes two apps in one process. */
export interface Archived {
  readonly backupDir: string
  /** Everything committed until then (the server's clock, ms since the epoch) is safe in the archive. */
  readonly at: number
}

export interface Uploaded {
  readonly backupDir: string
  /** Everything committed until then is in the bucket; 0: nothing is known yet. */
  readonly at: number
  /** What the folder has of it and the bucket does not: of the log, and of base backups. */
  readonly behindBytes: number
}

export interface BaseTaken {
  readonly backupDir: string
  readonly id: string
  readonly finishedAt: number
  readonly durationMs: number
}

export interface BackupFailed {
  readonly backupDir: string
  readonly error: unknown
}

export const archived = diagnostics.channel('rung:backup:archived')
export const uploaded = diagnostics.channel('rung:backup:uploaded')
export const baseTaken = diagnostics.channel('rung:backup:base')
export const backupFailed = diagnostics.channel('rung:backup:failed')
