import { mkdir, readFile } from 'node:fs/promises'
import path from 'node:path'
import { writeWhole } from '../engines/disk/atomic.ts'
import type { Demands } from '../load/demands.ts'

const fileIn = (dataDir: string) => path.join(dataDir, 'load', 'demands.json')

/** @returns the path of the file */
export async function keepDemands(demands: Demands, dataDir: string): Promise<string> {
  const file = fileIn(dataDir)
  await mkdir(path.dirname(file), { recursive: true, mode: 0o700 })
  await writeWhole(file, `${JSON.stringify(demands, undefined, 2)}\n`)
  return file
}

/** Returns what the last search for the limit has kept; `undefined` if there was none, or by a version that kept less. */
export async function readDemands(dataDir: string): Promise<Demands | undefined> {
  const text = await readFile(fileIn(dataDir), 'utf8').catch(() => 'null')
  try {
    const demands = JSON.parse(text) as Partial<Demands> | null
    return demands?.mix && demands.earlier && demands.limit && demands.limit.requests > 0
      ? (demands as Demands)
      : undefined
  } catch {
    return undefined
  }
}
