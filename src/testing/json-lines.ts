import { appendFileSync, existsSync, readFileSync } from 'node:fs'

/** Adds a value to a file that several processes may write to: one line for each. */
export function addJsonLine(file: string, value: object): void {
  appendFileSync(file, `${JSON.stringify(value)}\n`)
}

/** Returns the values in their order; none where the file is missing. */
export function readJsonLines<T>(file: string): T[] {
  if (!existsSync(file)) return []
  const lines = readFileSync(file, 'utf8').split('\n').filter(Boolean)
  return lines.map((line) => JSON.parse(line) as T)
}
