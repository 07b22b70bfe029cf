import { pino } from 'pino'
import type { LogLevel } from './config.ts'

/** What must never be printed, wherever it hides in a logged object. */
const secrets = ['authorization', 'cookie', 'set-cookie', 'password', 'token', 'secret', 'connectionString', 'url']

export type Log = pino.Logger

/** JSON lines on standard output, or on `file`. */
export function createLog(name: string, level: LogLevel, file?: string): Log {
  return pino(
    {
      name,
      level,
      redact: { paths: secrets.flatMap((key) => [`["${key}"]`, `*["${key}"]`, `*.*["${key}"]`]), censor: '[secret]' },
      formatters: { level: (label) => ({ level: label }) },
      timestamp: pino.stdTimeFunctions.isoTime,
    },
    file === undefined
      ? pino.destination({ fd: 1, sync: false })
      : pino.destination({ dest: file, sync: false, mkdir: true }),
  )
}
