import { hostname } from 'node:os'
import { type LoggerOptions, pino } from 'pino'
import { errorOf } from '../kernel/errors.ts'
import { currentScope, type Scope } from '../kernel/scope.ts'
import type { LogFormat, LogLevel } from '../topology/settings.ts'
import { prettyLine } from './pretty.ts'

/** What must never be printed, wherever it hides in a logged object. */
const secrets = ['authorization', 'cookie', 'set-cookie', 'password', 'token', 'secret', 'connectionString', 'url']

export type Log = pino.Logger

/**
 * Of an error: its kind, code, message and place, and the same of its causes. A driver's errors carry more, the values of
 * the failed row among it; that is not for a log.
 */
function describe(thrown: unknown, depth = 0): unknown {
  if (thrown === undefined) return undefined
  const error = errorOf(thrown)
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

/** Returns by what a unit of work is found: its request and its trace. */
export function placeOfWork(scope: Scope | undefined): { requestId?: string; traceId?: string } {
  if (!scope) return {}
  const traceId = scope.traceparent?.split('-')[1]
  return { ...(scope.kind === 'request' && { requestId: scope.id }), ...(traceId !== undefined && { traceId }) }
}

export interface LogOptions {
  /** Default `json`. */
  format?: LogFormat
  /** Show the code around the place of an error, in the format for people. */
  frames?: boolean
  /** Where this process runs. */
  zone?: string | undefined
  /** Gets each line too, as JSON, when it is written. */
  copyTo?: ((line: string) => void) | undefined
}

/** Lines on standard output. */
export function createLog(
  name: string,
  level: LogLevel,
  { format = 'json', frames = false, zone, copyTo }: LogOptions = {},
): Log {
  const settings: LoggerOptions = {
    name,
    level,
    ...(zone !== undefined && { base: { pid: process.pid, hostname: hostname(), zone } }),
    redact: { paths: secrets.flatMap((key) => [`["${key}"]`, `*["${key}"]`, `*.*["${key}"]`]), censor: '[secret]' },
    mixin: () => placeOfWork(currentScope()),
    serializers: { err: (error) => describe(error) },
    formatters: { level: (label) => ({ level: label }) },
    timestamp: pino.stdTimeFunctions.isoTime,
  }
  const { stdout } = process
  if (format === 'pretty' || (format === 'auto' && stdout.isTTY)) {
    const options = { colors: stdout.isTTY && stdout.hasColors(), frames }
    return pino(settings, {
      write(line) {
        copyTo?.(line)
        stdout.write(`${prettyLine(line.trimEnd(), options)}\n`)
      },
    })
  }
  const destination = pino.destination({ fd: 1, sync: false })
  // pino goes on when nobody reads any more. Whoever wants to stop then listens on the stream.
  destination.on('error', (error) => stdout.listenerCount('error') > 0 && stdout.emit('error', error))
  if (!copyTo) return pino(settings, destination)
  return pino(settings, {
    write(line) {
      copyTo(line)
      destination.write(line)
    },
  })
}
