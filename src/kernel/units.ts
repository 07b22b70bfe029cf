import { RungError } from './errors.ts'

/** A duration in an option: a number of ms, or text such as `250ms`, `10s`, `5m`, `2h`, `7d`. */
export type Duration = number | `${number}${'ms' | 's' | 'm' | 'h' | 'd'}`
/** A size in an option: a number of bytes, or text such as `512KiB`, `1MiB`, `2GiB`. */
export type Size = number | `${number}${'B' | 'KiB' | 'MiB' | 'GiB'}`

const durationMs: Record<string, number> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 }
const sizeBytes: Record<string, number> = { B: 1, KiB: 1024, MiB: 1024 ** 2, GiB: 1024 ** 3 }

function parse(text: string | number, units: Record<string, number>, what: string, example: string): number {
  const match = typeof text === 'string' ? /^(\d+(?:\.\d+)?)\s*([A-Za-z]+)$/.exec(text) : undefined
  const factor = match ? units[match[2]!] : undefined
  const value = typeof text === 'number' ? text : factor === undefined ? Number.NaN : Number(match![1]) * factor
  if (!Number.isFinite(value) || value < 0) {
    throw new RungError('CONFIG_INVALID', `"${text}" is not a ${what}. Write for example ${example}.`)
  }
  return value
}

/** @throws CONFIG_INVALID */
export function toMs(duration: Duration): number {
  return parse(duration, durationMs, 'duration', "'250ms', '10s' or '5m'")
}

/** @throws CONFIG_INVALID */
export function toBytes(size: Size): number {
  return Math.round(parse(size, sizeBytes, 'size', "'512KiB' or '1MiB'"))
}

/** `1234567` → `1.2 MiB`, for people. */
export function formatBytes(bytes: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB']
  let value = bytes
  let unit = 0
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024
    unit += 1
  }
  return `${unit === 0 ? value : value.toFixed(value < 10 ? 1 : 0)} ${units[unit]}`
}

/** `7200000` → `2 h`, `90000000` → `1 day`: how long ago something was, for people. */
export function formatAge(ms: number): string {
  const days = Math.round(ms / 86_400_000)
  return ms < 86_400_000 ? `${Math.round(ms / 3_600_000)} h` : `${days} ${days === 1 ? 'day' : 'days'}`
}

/** `61500` → `1m 2s`, for people. */
export function formatMs(ms: number): string {
  if (ms < 1) return `${ms.toFixed(2)} ms`
  if (ms < 1000) return `${Math.round(ms)} ms`
  if (ms < 60_000) return `${(ms / 1000).toFixed(1)} s`
  const minutes = Math.floor(ms / 60_000)
  if (minutes < 60) return `${minutes}m ${Math.round((ms % 60_000) / 1000)}s`
  return `${Math.floor(minutes / 60)}h ${minutes % 60}m`
}
