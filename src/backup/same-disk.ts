import { stat } from 'node:fs/promises'

/** Whether a failing disk would take the backups together with the data. */
export async function onSameDisk(dataDir: string, backupDir: string): Promise<boolean> {
  const [data, backup] = await Promise.all([stat(dataDir), stat(backupDir)])
  return data.dev === backup.dev
}

export function sameDiskWarning(backupDir: string): string {
  return `warning: ${backupDir} is on the same disk as the data; set RUNG_BACKUP_DIR to another one`
}
