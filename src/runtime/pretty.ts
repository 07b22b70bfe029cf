import { callSite, codeFrame } from '../kernel/fault.ts'

/** Lines of the log for people, from the JSON that programs get. */

interface LoggedError {
  name?: string
  code?: string
  message?: string
  stack?: string
  cause?: unknown
}

export interface PrettyOptions {
  colors: boolean
  /** Show the code around the place of an error. */
  frames: boolean
}

const levelColors: Record<string, number> = { trace: 90, debug: 90, info: 32, warn: 33, error: 31, fatal: 31 }
/** Told by the line itself, or of no use to people. */
const left = new Set([
  'level',
  'time',
  'pid',
  'hostname',
  'zone',
  'name',
  'msg',
  'err',
  'traceparent',
  'traceId',
  'requestId',
  'reqId',
  'event',
])
const ofRequests = new Set(['method', 'route', 'module', 'status', 'ms', 'statements', 'statementMs'])
const valueCharsMax = 300
const framesMax = 8

/** `12:03:04.123 INFO  GET /notes/:id 200 12 ms, 1 statement`. A line that is no JSON stays as it is. */
export function prettyLine(line: string, options: PrettyOptions): string {
  let record: Record<string, unknown>
  try {
    record = JSON.parse(line)
  } catch {
    return line
  }
  const paint = (code: number, text: string) => (options.colors ? `\u001b[${code}m${text}\u001b[0m` : text)
  const level = String(record.level)
  const head = `${paint(90, timeOf(record.time))} ${paint(levelColors[level] ?? 0, level.toUpperCase().padEnd(5))}`
  const isRequest = record.msg === 'request' && record.status !== undefined
  const text = isRequest ? request(record, paint) : String(record.msg ?? '')
  const facts = Object.entries(record)
    .filter(([name, value]) => !left.has(name) && !(isRequest && ofRequests.has(name)) && value !== undefined)
    .map(([name, value]) => paint(90, `${name}=${short(value)}`))
  const error = record.err === undefined ? [] : errorLines(record.err as LoggedError, options)
  return [[head, text, ...facts].join(' '), ...error].join('\n')
}

function request(record: Record<string, unknown>, paint: (code: number, text: string) => string): string {
  const { method, route, status, ms, statements, statementMs } = record
  const color = Number(status) >= 500 ? 31 : Number(status) >= 400 ? 33 : 32
  const count = Number(statements)
  const database = count > 0 ? `, ${count} statement${count === 1 ? '' : 's'} in ${statementMs} ms` : ''
  return `${method} ${route ?? '(no route)'} ${paint(color, String(status))} ${ms} ms${database}`
}

function timeOf(time: unknown): string {
  const at = new Date(String(time))
  if (Number.isNaN(at.getTime())) return String(time)
  const two = (value: number) => String(value).padStart(2, '0')
  return `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}.${String(at.getMilliseconds()).padStart(3, '0')}`
}

function errorLines(error: LoggedError, { frames }: PrettyOptions): string[] {
  const lines: string[] = []
  let framed = !frames
  let current: unknown = error
  for (let depth = 0; depth < 5 && current !== undefined; depth += 1) {
    if (typeof current !== 'object' || current === null) {
      lines.push(`    ${depth === 0 ? '' : 'caused by '}${short(current)}`)
      break
    }
    const { name = 'Error', code, message = '', stack = '', cause } = current as LoggedError
    const kind = code === undefined ? name : `${name} ${code}`
    lines.push(...`${depth === 0 ? '' : 'caused by '}${kind}: ${message}`.split('\n').map((text) => `    ${text}`))
    const site = callSite(stack)
    const frame = framed || site === 'unknown' ? undefined : codeFrame(site)
    if (frame !== undefined) lines.push(...frame.split('\n').map((text) => `      ${text}`))
    framed ||= frame !== undefined
    lines.push(...placesIn(stack, cause !== undefined).map((text) => `      ${text}`))
    current = cause
  }
  return lines
}

/** Those in the app. Where there are none the first ones, unless a cause tells more. */
function placesIn(stack: string, hasCause: boolean): string[] {
  const all = stack
    .split('\n')
    .map((text) => text.trim())
    .filter((text) => text.startsWith('at '))
  const ofApp = all.filter((text) => callSite(`\n${text}`) !== 'unknown')
  return ofApp.length > 0 || hasCause ? ofApp.slice(0, framesMax) : all.slice(0, 3)
}

function short(value: unknown): string {
  if (typeof value === 'number') return String(Math.round(value * 100) / 100)
  const text = typeof value === 'string' ? value : (JSON.stringify(value) ?? String(value))
  return text.length > valueCharsMax ? `${text.slice(0, valueCharsMax - 1)}…` : text
}
