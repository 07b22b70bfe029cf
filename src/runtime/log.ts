import { pino } from 'pino'
import type { LogLevel } from './config.ts'

/** What must never be printed, wherever it hides in a logged object. */
const secrets = ['authorization', 'cookie', 'set-cookie', 'password', 'token', 'secret', 'connectionString', 'url']

export type Log = pino.Logger

/**
 * Of an error: its kind, code, message and place, and the same of its causes. A driver's errors carry more, the values of
 * the failed row among it; that is not for a log.
 */
function describe(error: unknown, depth = 0): unknown {
  if (!(error instanceof Error)) return error
  const { name, message, stack, cause } = error
  const { code, status } = error as { code?: unknown; status?: unknown }
  return {
    name,
    code,
    status,
    message,
    stack,
    ...(cause !== undefined && depth < 4 && { cause: describe(cause, depth + 1) }),
  }
}

/** JSON lines on standard output, or on `file`. */
export function createLog(name: string, level: LogLevel, file?: string): Log {
  return pino(
    {
      name,
      level,
      redact: { paths: secrets.flatMap((key) => [`["${key}"]`, `*["${key}"]`, `*.*["${key}"]`]), censor: '[secret]' },
      serializers: { err: (error) => describe(error) },
      formatters: { level: (label) => ({ level: label }) },
      timestamp: pino.stdTimeFunctions.isoTime,
    },
    file === undefined
      ? pino.destination({ fd: 1, sync: false })
      : pino.destination({ dest: file, sync: false, mkdir: true }),
  )
}
