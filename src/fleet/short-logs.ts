import { copyFile, stat, truncate } from 'node:fs/promises'
import { every } from '../kernel/clock.ts'

const bytesMax = 50 * 1024 ** 2
const lookEveryMs = 10_000

/**
 * A fleet runs for months: a log that has grown large is copied to `….1` and truncated. Its writer appends and need not know;
 * lines that are written at that very moment may be lost.
 */
export function keepLogsShort(files: readonly string[]): () => void {
  let looking = false
  return every(lookEveryMs, async () => {
    if (looking) return
    looking = true
    for (const file of files) await shorten(file, bytesMax).catch(() => {}) // the file does not exist, or the disk is full
    looking = false
  })
}

export async function shorten(file: string, most: number): Promise<void> {
  if ((await stat(file)).size <= most) return
  await copyFile(file, `${file}.1`)
  await truncate(file)
}
