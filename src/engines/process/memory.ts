import { readFile } from 'node:fs/promises'

/** Returns the memory of some processes in bytes, where what they share counts once. `undefined` where the system does not tell: it is not Linux. */
export async function memoryOf(pids: readonly number[]): Promise<number | undefined> {
  const each = await Promise.all(pids.map(sharedOutBytes))
  const known = each.filter((bytes) => bytes !== undefined)
  return known.length === 0 ? undefined : known.reduce((a, b) => a + b, 0)
}

/** Of a page that several processes have, each has a part. */
async function sharedOutBytes(pid: number): Promise<number | undefined> {
  const text = await readFile(`/proc/${pid}/smaps_rollup`, 'utf8').catch(() => '') // it has just ended
  const [, kib] = /^Pss: +(\d+) kB$/m.exec(text) ?? []
  return kib === undefined ? undefined : Number(kib) * 1024
}
