import type { FastifyInstance } from 'fastify'

/**
 * Returns a function that finds the methods of a path, for 405 answers. Fastify's router finds routes by pattern only, so the patterns are
 * searched here. Only requests without a route pay for it.
 */
export function methodsAt(app: FastifyInstance): (path: string) => string[] {
  const routes = new Map<string, { pattern: RegExp; methods: Set<string> }>()
  app.addHook('onRoute', ({ method, url, config }) => {
    if (config?.system || url === '*' || url === '/*') return
    const route = routes.get(url) ?? { pattern: patternOf(url), methods: new Set() }
    for (const one of [method].flat()) route.methods.add(one)
    routes.set(url, route)
  })
  return (path) => {
    const found = [...routes.values()].filter(({ pattern }) => pattern.test(path))
    return [...new Set(found.flatMap(({ methods }) => [...methods]))].sort()
  }
}

/** A parameter matches anything but a slash, `*` matches everything. */
function patternOf(url: string): RegExp {
  const parts = url.split('/').map((part) => {
    if (part.includes(':')) return part.endsWith('?') ? '[^/]*' : '[^/]+'
    return part
      .split('*')
      .map((text) => text.replace(/[\\^$.|?+()[\]{}]/g, '\\$&'))
      .join('.*')
  })
  return new RegExp(`^${parts.join('/')}$`)
}
