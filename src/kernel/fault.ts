import { readFileSync } from 'node:fs'
import path from 'node:path'
import { fileURLToPath } from 'node:url'

/** A description of an error for the app's authors, never for its clients. */
export interface Fault {
  /** The thrown error, its cause, and so on. */
  errors: FaultError[]
  /** File, line and column in the app's own code. */
  at?: string
  /** The lines around that place. */
  frame?: string
}

export interface FaultError {
  name: string
  code?: string
  message: string
  stack: string[]
}

const causesMax = 5
const stackLinesMax = 30
const messageCharsMax = 2_000
const ownFolder = path.resolve(fileURLToPath(import.meta.url), '../..')

/** Describes any thrown value. It never throws. */
export function faultOf(thrown: unknown): Fault {
  const errors: FaultError[] = []
  const places: string[] = []
  for (let error = thrown; errors.length < causesMax; ) {
    errors.push(describe(error))
    places.push(callSite(attempt(() => String((error as Error).stack)) ?? ''))
    const cause = attempt(() => (error instanceof Error ? error.cause : undefined))
    if (cause === undefined) break
    error = cause
  }
  const at = places.find((place) => place !== 'unknown')
  const frame = at === undefined ? undefined : codeFrame(at)
  return { errors, ...(at !== undefined && { at: relative(at) }), ...(frame !== undefined && { frame }) }
}

function describe(error: unknown): FaultError {
  const read = (name: string) => attempt(() => String((error as Record<string, unknown>)[name] ?? '')) ?? ''
  if (!attempt(() => error instanceof Error)) {
    const text = attempt(() => (typeof error === 'string' ? error : JSON.stringify(error)))
    return {
      name: 'a value that is not an error',
      message: String(text ?? typeof error).slice(0, messageCharsMax),
      stack: [],
    }
  }
  const lines = read('stack').split('\n')
  const code = read('code')
  return {
    name: read('name') || 'Error',
    ...(code !== '' && { code }),
    message: read('message').slice(0, messageCharsMax),
    stack: lines
      .filter((line) => /^\s+at /.test(line))
      .slice(0, stackLinesMax)
      .map((line) => line.trim()),
  }
}

/**
 * Returns the first frame that belongs neither to this library nor to Node or a dependency. For a file that cannot be parsed, returns the
 * place that Node marks above the stack.
 */
export function callSite(stack: string, own = ownFolder): string {
  const [, file, line] = /^(\/.*|file:.*|[A-Z]:\\.*):(\d+)\n/.exec(stack) ?? []
  if (file !== undefined) {
    const [, before = ''] = /\n( *)\^+ *\n/.exec(stack) ?? []
    const place = `${file}:${line}:${before.length + 1}`
    return file.startsWith('file:') ? withoutScheme(place) : place
  }
  for (const line of stack.split('\n').slice(1)) {
    const match = /(?:\(|at (?:async )?)((?:file:\/\/)?\/?[^()]+?:\d+:\d+)\)?$/.exec(line)
    if (!match) continue
    const place = match[1]!.startsWith('file:') ? withoutScheme(match[1]!) : match[1]!
    if (place.startsWith('node:') || place.includes('/node_modules/') || place.startsWith(`${own}${path.sep}`)) continue
    return place
  }
  return 'unknown'
}

function withoutScheme(url: string): string {
  const [, file, position] = /^(.*?)(:\d+:\d+)$/.exec(url)!
  return attempt(() => fileURLToPath(file!.replace(/\?.*$/, ''))) + position!
}

/**
 * Returns the lines around `file:line:column`, with a mark, or `undefined` if the file cannot be read. The place is right in TypeScript too,
 * since Node removes types without moving anything.
 */
export function codeFrame(place: string): string | undefined {
  const [, file, lineText, columnText] = /^(.*):(\d+):(\d+)$/.exec(place) ?? []
  const text = file === undefined ? undefined : attempt(() => readFileSync(file, 'utf8'))
  if (text === undefined) return undefined
  const lines = text.split('\n')
  const [line, column] = [Number(lineText), Number(columnText)]
  if (line > lines.length) return undefined
  const first = Math.max(1, line - 3)
  const shown = lines.slice(first - 1, line + 2)
  const width = String(first + shown.length - 1).length
  return shown
    .flatMap((code, index) => {
      const number = first + index
      const cut = code.slice(0, 200).trimEnd()
      const row = `${number === line ? '>' : ' '} ${String(number).padStart(width)} | ${cut}`.trimEnd()
      if (number !== line) return [row]
      const indent = code.slice(0, column - 1).replace(/[^\t]/g, ' ')
      return [row, `  ${' '.repeat(width)} | ${indent}^`]
    })
    .join('\n')
}

/** Returns the place relative to the working directory, if it is inside. */
function relative(place: string): string {
  const short = path.relative(process.cwd(), place)
  return short.startsWith('..') ? place : short
}

function attempt<T>(fn: () => T): T | undefined {
  try {
    return fn()
  } catch {
    return undefined
  }
}
