import { execFileSync } from 'node:child_process'
import { mkdir, writeFile } from 'node:fs/promises'
import { availableParallelism, cpus, totalmem, type } from 'node:os'
import { fileURLToPath } from 'node:url'

/** How a bench shows what it has measured, and keeps it. */

export interface Facts {
  date: string
  commit: string
  cpu: string
  cores: number
  memoryGiB: number
  system: string
  node: string
  postgres: string
}

export function machineFacts(postgres: string): Facts {
  const git = (...args: string[]) => execFileSync('git', args, { encoding: 'utf8', cwd: fileURLToPath(root) }).trim()
  return {
    date: new Date().toISOString().slice(0, 10),
    commit: git('rev-parse', '--short=12', 'HEAD') + (git('status', '--porcelain', 'src') === '' ? '' : ' and changes'),
    cpu: cpus()[0]?.model.trim() ?? 'unknown',
    cores: availableParallelism(),
    memoryGiB: Math.round(totalmem() / 1024 ** 3),
    system: type(),
    node: process.version,
    postgres,
  }
}

const root = new URL('../../', import.meta.url)

export async function save(name: string, result: object): Promise<void> {
  const folder = new URL('bench/results/', root)
  await mkdir(folder, { recursive: true })
  await writeFile(new URL(`${name}.json`, folder), `${JSON.stringify(result, null, 2)}\n`)
}

/** Columns as wide as they need; the first to the left, the others to the right. */
export function table(rows: readonly (readonly string[])[]): string {
  const widths = rows[0]!.map((_, at) => Math.max(...rows.map((row) => row[at]!.length)))
  return rows
    .map((row) => row.map((cell, at) => (at === 0 ? cell.padEnd(widths[0]!) : cell.padStart(widths[at]!))).join('  '))
    .join('\n')
}

export interface Spread {
  median: number
  least: number
  most: number
}

export function spread(values: readonly number[]): Spread {
  const sorted = [...values].sort((a, b) => a - b)
  const middle = sorted.length >> 1
  const median = sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2
  return { median, least: sorted[0]!, most: sorted.at(-1)! }
}

/** Of the sorted: so many are above it as one in a hundred. */
export function at99(sorted: readonly number[]): number {
  return sorted[Math.ceil(sorted.length * 0.99) - 1]!
}

/** To what a person reads and a file keeps. */
export function rounded({ median, least, most }: Spread): Spread {
  const round = (value: number) => Number(value.toPrecision(3))
  return { median: round(median), least: round(least), most: round(most) }
}

export function inWords({ median, least, most }: Spread, digits = 2): string {
  return `${median.toFixed(digits)} (${least.toFixed(digits)} to ${most.toFixed(digits)})`
}

export function progress(text: string): void {
  process.stderr.write(`${text}\n`)
}
