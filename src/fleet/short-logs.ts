import { copyFile, stat, truncate } from 'node:fs/promises'
import { every } from '../kernel/clock.ts'

const logBytesMax = 50 * 1024 ** 2
const lookEveryMs = 10_000

/**
 * Copies logs that have grown large to `….1`, and truncates them. Their writers append and are not affected; lines written at that
 * moment may be lost.
 * @returns a function that ends it
 */
export function keepLogsShort(files: () => readonly string[]): () => void {
  let looking = false
  return every(lookEveryMs, async () => {
    if (looking) return
    looking = true
    for (const file of files()) await shorten(file, logBytesMax).catch(() => {}) // the file does not exist, or the disk is full
    looking = false
  })
}

export async function shorten(file: string, bytesMax: number): Promise<void> {
  if ((await stat(file)).size <= bytesMax) return
  await copyFile(file, `${file}.1`)
  await truncate(file)
}
