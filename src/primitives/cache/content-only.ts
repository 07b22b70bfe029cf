import type { FastifyReply, FastifyRequest } from 'fastify'
import { RungError } from '../../kernel/errors.ts'

/** What a kept answer may be made of: these parts, and nothing else that its request brought along, are in its key. */
export interface ContentKey {
  readonly params: unknown
  readonly query: Readonly<Record<string, unknown>>
  /** Values of the headers in `vary`, by their names in lower case. */
  readonly headers: ReadonlyMap<string, string | undefined>
}

export function contentKeyOf(request: FastifyRequest, vary: readonly string[]): ContentKey {
  return {
    params: request.params,
    query: knownQuery(request),
    headers: new Map(vary.map((name) => varied(request, name))),
  }
}

/** The host that a trusted proxy names counts, not the `Host` header of the proxy's own request. */
function varied(request: FastifyRequest, header: string): [name: string, value: string | undefined] {
  const name = header.toLowerCase()
  const value = name === 'host' ? request.host : request.headers[name]
  return [name, value === undefined ? undefined : String(value)]
}

/** What the schema names. A schema that lets further ones in, or none at all, lets all of them be part of the answer. */
function knownQuery({ query, routeOptions }: FastifyRequest): Record<string, unknown> {
  const schema = routeOptions.schema?.querystring as Record<string, unknown> | undefined
  const known = schema?.properties as object | undefined
  const isOpen = Boolean(schema?.additionalProperties || schema?.patternProperties || schema?.unevaluatedProperties)
  const asked = Object.entries(query as object).filter(([name]) => !known || isOpen || Object.hasOwn(known, name))
  return Object.fromEntries(asked.sort(([a], [b]) => (a < b ? -1 : 1)))
}

/** Of the request itself nothing is in them. */
const harmless = new Set(['method', 'routeOptions', 'server', 'log', 'is404'])

/**
 * The request as the handler of a kept answer sees it. What is not part of the key (other headers, cookies, the host, the address, unknown
 * parts of the query) could end up in an answer that others get, so that it is refused.
 */
export function contentRequest(request: FastifyRequest, { params, query, headers }: ContentKey): FastifyRequest {
  const { url: pattern } = request.routeOptions
  const refuse = (what: string): never => {
    throw new RungError(
      'APP_INVALID',
      `GET ${pattern} has a cache, and its handler reads request.${what}, which is not part of its key. Take it from the params, from the ` +
        'query that the schema names or from a header in `vary`, or take the cache off.',
    )
  }
  const host = () => headers.get('host') ?? refuse('host')
  const shown: Record<string, () => unknown> = {
    params: () => params,
    query: () => query,
    body: () => undefined,
    headers: () =>
      new Proxy(Object.fromEntries(headers) as Record<string, unknown>, {
        get(known, name) {
          if (typeof name === 'symbol' || name in known) return Reflect.get(known, name)
          // A reader who had shown one of these would have got an answer of their own.
          if (/^(authorization|cookie|toJSON)$/.test(name)) return undefined
          return refuse(`headers[${JSON.stringify(name)}]`)
        },
      }),
    url: () => canonicalUrl(pattern!, params as Record<string, unknown>, query),
    originalUrl: () => canonicalUrl(pattern!, params as Record<string, unknown>, query),
    host,
    hostname: () => host().replace(/:\d+$/, ''),
  }
  return new Proxy(request, {
    get(target, name) {
      if (typeof name === 'symbol' || harmless.has(name)) return Reflect.get(target, name, target)
      if (name === 'then') return undefined
      return shown[name] ? shown[name]() : refuse(name)
    },
  })
}

/** The same for all that have the same key, however it was written. */
function canonicalUrl(
  pattern: string,
  params: Record<string, unknown>,
  query: Readonly<Record<string, unknown>>,
): string {
  const path = pattern.replace(/:(\w+)(\([^)]*\))?\??|\*/g, (all, name) =>
    encodeURIComponent(String(params[name ?? all] ?? '')).replaceAll('%2F', '/'),
  )
  const pairs = Object.entries(query).flatMap(([name, value]) =>
    [value].flat().map((one): [string, string] => [name, typeof one === 'object' ? JSON.stringify(one) : String(one)]),
  )
  return pairs.length === 0 ? path : `${path}?${new URLSearchParams(pairs)}`
}

/** Whatever else it does speaks to one client, who is not the only one to get the answer. */
const replyParts =
  /^(type|log|server|routeOptions|serialize|getSerializationFunction|compileSerializationSchema|serializeInput)$/

/** The reply as that handler sees it: it may name the type of its answer, and returns the rest. */
export function contentReply(reply: FastifyReply, request: FastifyRequest): FastifyReply {
  const shown: FastifyReply = new Proxy(reply, {
    get(target, name) {
      if (name === 'request') return request
      if (name === 'then') return undefined
      if (name === 'type') {
        return (type: string) => {
          target.type(type)
          return shown
        }
      }
      if (typeof name === 'symbol' || replyParts.test(name)) return Reflect.get(target, name, target)
      throw new RungError(
        'APP_INVALID',
        `GET ${request.routeOptions.url} has a cache, and its handler uses reply.${name}. Let it return the answer, or take the cache off.`,
      )
    },
  })
  return shown
}
