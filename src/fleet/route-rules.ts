import type { RouteRule } from '../engines/process/engine.ts'

/** A route of the app as Fastify knows it: `GET /api/articles/:slug`, and the group whose processes have it. */
export interface GroupRoute {
  readonly method: string
  readonly url: string
  readonly group: string | undefined
}

/**
 * Returns the rules by which a balancer finds the group of a request. They are as specific as the router of the app: a word in the path comes
 * before a parameter, and a parameter before a wildcard (find-my-way, "Match order"). A method that a path of a group does not have is
 * answered by the group too, which knows the others. Pure.
 */
export function routeRules(routes: readonly GroupRoute[]): readonly RouteRule[] {
  const all = unique(routes).toSorted((a, b) => compare(partsOf(a.url), partsOf(b.url)))
  const grouped = all.filter(({ group }) => group !== undefined)
  // While modules move, processes of both have them: only those of the group all do.
  const moving = new Set(grouped.map(({ method, url }) => `${method} ${url}`))
  const others = all.filter(({ method, url, group }) => group === undefined && !moving.has(`${method} ${url}`))
  const rivals = others.filter((one) => grouped.some((other) => overlap(partsOf(one.url), partsOf(other.url))))
  const needed = all.filter((one) => one.group !== undefined || rivals.includes(one))
  const anyMethod = grouped.filter((one) => !others.some(({ url }) => url === one.url))
  return unique([...needed, ...anyMethod.map((one) => ({ ...one, method: '[A-Z]+' }))]).map(
    ({ method, url, group }) => ({
      pattern: `^${method}:${pathPattern(url)}$`,
      group,
    }),
  )
}

function unique(routes: readonly GroupRoute[]): GroupRoute[] {
  return [...new Map(routes.map((one) => [`${one.method} ${one.url} ${one.group}`, one])).values()]
}

function partsOf(url: string): string[] {
  return url.split('/').slice(1)
}

/** 0: a word, 1: a parameter within a word, 2: a parameter, 3: a wildcard. */
function kindOf(part: string): number {
  if (part.includes('*')) return 3
  if (part.startsWith(':')) return 2
  return part.includes(':') ? 1 : 0
}

/** The more specific first; equal ones by their text, so that the order is always the same. */
function compare(a: readonly string[], b: readonly string[]): number {
  for (let at = 0; at < Math.max(a.length, b.length); at += 1) {
    const [one, other] = [a[at], b[at]]
    if (one === undefined || other === undefined) return one === undefined ? 1 : -1
    const difference = kindOf(one) - kindOf(other)
    if (difference !== 0) return difference
    if (one !== other && kindOf(one) === 0) return one < other ? -1 : 1
  }
  return 0
}

/** Whether some path may match both. */
function overlap(a: readonly string[], b: readonly string[]): boolean {
  for (let at = 0; at < Math.max(a.length, b.length); at += 1) {
    const [one, other] = [a[at], b[at]]
    if (one?.includes('*') || other?.includes('*')) return true
    if (one === undefined || other === undefined) return (one ?? other)!.endsWith('?')
    if (kindOf(one) === 0 && kindOf(other) === 0 && one !== other) return false
  }
  return true
}

/** A parameter of the router is never empty and has no slash; `:id?` at the end may be missing. */
function pathPattern(url: string): string {
  const parts = partsOf(url).map((part) => {
    if (/^:\w+\?$/.test(part)) return '(?:/[^/]+)?'
    const pattern = part
      .split(/(:\w+(?:\([^)]*\))?|\*)/)
      .map((piece) => (piece === '*' ? '.*' : piece.startsWith(':') ? '[^/]+' : escaped(piece)))
      .join('')
    return `/${pattern}`
  })
  return parts.join('')
}

/** A blank would end the pattern in a map of HAProxy. */
function escaped(text: string): string {
  return text.replace(/[\\^$.*+?()[\]{}|#]/g, '\\$&').replace(/\s/g, '\\s')
}
