import { createHash } from 'node:crypto'
import { callSite, type Fault, type FaultError, faultOf } from '../kernel/fault.ts'
import { storableText } from './sighting-table.ts'

/** The newest error of a group, as `rung errors` shows it. It has no headers, no bodies, and no values of statements. */
export interface ErrorSample extends Pick<Fault, 'errors' | 'at'> {
  /** The unit of work that failed: `GET /api/articles`, `job send-mail`. */
  where: string
  /** Of the trace, as in the log. */
  traceId?: string
  requestId?: string
}

const framesMax = 5

/** Describes an error for a group. Pure. */
export function sampleOf(thrown: unknown, where: string): ErrorSample {
  const { errors, at } = faultOf(thrown)
  return {
    where: storableText(where),
    errors: errors.map(({ name, code, message, stack }) => ({
      name: storableText(name),
      ...(code !== undefined && { code: storableText(code) }),
      message: storableText(message),
      stack: stack.map((line) => storableText(inApp(line))),
    })),
    ...(at !== undefined && { at: storableText(inApp(at)) }),
  }
}

/** A place in the copy of the app that a fleet runs, as the app's authors know it. */
function inApp(text: string): string {
  return text.replace(/(?:file:\/\/)?\/[^\s()]*\/releases\/[^/\s]+\/(?:above\/)*app\//, '')
}

/**
 * Returns what equal errors have in common: their kinds, and the functions of the app that they passed. Lines, columns and folders are left out,
 * because another release has others. Where no function of the app was passed, the unit of work and the message count, without its values. Pure.
 */
export function fingerprintOf({ errors, where }: Pick<ErrorSample, 'errors' | 'where'>): string {
  const chain = errors.map((error) => [error.name, error.code ?? '', ...appFrames(error)])
  const passedApp = errors.some((error) => appFrames(error).length > 0)
  const parts = passedApp ? chain : [...chain, [where, ...errors.map(({ message }) => withoutValues(message))]]
  return createHash('sha256').update(JSON.stringify(parts)).digest('hex').slice(0, 10)
}

/** `articles/queries.ts listArticles` for each, the innermost first. */
function appFrames({ stack }: FaultError): string[] {
  return stack
    .filter((line) => callSite(`\n${line}`) !== 'unknown')
    .slice(0, framesMax)
    .map((line) => {
      const [, name = ''] = /^at (?:async )?(?:new )?([^ (]+) \(/.exec(line) ?? []
      const [, file = ''] = /([^\\/(]*[\\/]?[^\\/]+?)(?:\?[^:]*)?:\d+:\d+\)?$/.exec(line) ?? []
      return `${file} ${name}`
    })
}

/** A message without what differs from one time to the next: texts in quotes, addresses, identifiers and numbers. Pure. */
export function withoutValues(message: string): string {
  return message
    .slice(0, 500)
    .replace(/"[^"]*"|'[^']*'|`[^`]*`/g, '?')
    .replace(/\b[0-9a-f]{8,}(?:-[0-9a-f]{4,})*\b/gi, '?')
    .replace(/\d+/g, '?')
}
