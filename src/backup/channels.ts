import diagnostics from 'node:diagnostics_channel'

/** What observers may listen to. `backupDir` tells two apps in one process apart. */
export interface Archived {
  readonly backupDir: string
  /** Everything committed until then, by the server's clock, is safe in the archive; ms since the epoch. */
  readonly at: number
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
export const baseTaken = diagnostics.channel('rung:backup:base')
export const backupFailed = diagnostics.channel('rung:backup:failed')
