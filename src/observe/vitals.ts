import { createHash } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { createRequire } from 'node:module'
import path from 'node:path'
import type { Http } from '../primitives/http/contract.ts'
import type { Figures } from './figures.ts'

/** Google's web vitals, as browsers measure them. Times are ms there, and seconds here. */
const times = ['LCP', 'INP', 'FCP', 'TTFB'] as const
/** What a report may have: of a page that was open for an hour, or of one that jumps all the time. */
const [msMax, shiftMax] = [3_600_000, 1_000]

/** With the bounds of "good" and "poor": LCP 2.5 and 4 s, INP 0.2 and 0.5 s, FCP 1.8 and 3 s, TTFB 0.8 and 1.8 s. */
const timeBuckets = [0.05, 0.1, 0.2, 0.35, 0.5, 0.8, 1.2, 1.8, 2.5, 3, 4, 6, 10, 30]
/** CLS 0.1 and 0.25. */
const shiftBuckets = [0.01, 0.025, 0.05, 0.1, 0.15, 0.25, 0.5, 1]

/** Of a pattern with a regular expression, a header may have not all. */
const routeName = (url: string) => url.replaceAll(/[^\x20-\x7e]|["\\]/g, '_')
const routeTiming = (url: string) => `route;desc="${routeName(url)}"`

const reportPath = '/-/vitals'
const scriptPath = '/-/vitals.js'

type Report = { page: string } & Partial<Record<(typeof times)[number] | 'CLS', number>>

const number = (maximum: number) => ({ type: 'number', minimum: 0, maximum })
const body = {
  ...{ type: 'object', required: ['page'], additionalProperties: false },
  properties: {
    page: { type: 'string', maxLength: 200 },
    ...Object.fromEntries(times.map((name) => [name, number(msMax)])),
    CLS: number(shiftMax),
  },
}

/**
 * Measures pages in their readers' browsers: serves the script that reports, and counts what it reports by the route of the page. Anybody may send
 * a report, so it is small, limited, and counts only for a route that the app has.
 */
export async function webVitals(http: Http, figures: Figures): Promise<void> {
  const script = Buffer.from(`${await library()}\n${beacon}`)
  const etag = `"${createHash('sha256').update(script).digest('base64url').slice(0, 16)}"`
  const durations = figures.histogram('web_vital_seconds', 'LCP, INP, FCP, TTFB.', ['vital', 'page'], timeBuckets)
  const shifts = figures.histogram('web_layout_shift', 'CLS of a page.', ['page'], shiftBuckets)

  // A path from a client must never be read as the pattern of a route.
  const pages = new Set<string>()
  http.addHook('onRoute', ({ method, url }) => {
    if ([method].flat().includes('GET')) pages.add(routeName(url))
  })
  // The browser knows the address of its page, and this tells the script the route.
  http.addHook('onSend', async (request, reply) => {
    const { url } = request.routeOptions
    if (url !== undefined && String(reply.getHeader('content-type')).startsWith('text/html'))
      reply.header('server-timing', [reply.getHeader('server-timing') ?? [], routeTiming(url)].flat().map(String))
  })
  http.get(
    scriptPath,
    { schema: { hide: true }, config: { limits: false, priority: 'sheddable' } },
    (request, reply) => {
      reply.headers({
        'cache-control': 'public, max-age=86400',
        'content-type': 'text/javascript; charset=utf-8',
        etag,
      })
      const known = request.headers['if-none-match']?.replace(/^W\//, '')
      return known === etag ? reply.status(304).send() : reply.send(script)
    },
  )
  http.post(
    reportPath,
    {
      ...{ schema: { hide: true, body }, bodyLimit: 1_000, logLevel: 'warn' },
      config: { limits: { max: 120, per: '1m', by: 'address' }, priority: 'sheddable' },
    },
    async (request, reply) => {
      const { page, CLS, ...found } = request.body as Report
      if (pages.has(page)) {
        for (const vital of times) {
          const ms = found[vital]
          if (ms !== undefined) durations.observe({ vital, page }, ms / 1_000)
        }
        if (CLS !== undefined) shifts.observe({ page }, CLS)
      }
      return reply.status(204).send()
    },
  )
}

/** The library as one script, which sets `webVitals`. */
function library(): Promise<string> {
  const entry = createRequire(import.meta.url).resolve('web-vitals')
  return readFile(path.join(path.dirname(entry), 'web-vitals.iife.js'), 'utf8')
}

/** Reports once, when the page is left or hidden: what comes later belongs to a page that most readers have forgotten. */
const beacon = `(() => {
  const [navigation] = performance.getEntriesByType('navigation')
  const route = navigation?.serverTiming?.find(({ name }) => name === 'route')
  if (!route) return
  const found = {}
  const keep = ({ name, value }) => { found[name] = value }
  for (const watch of [webVitals.onLCP, webVitals.onINP, webVitals.onFCP, webVitals.onTTFB, webVitals.onCLS]) watch(keep)
  let isSent = false
  addEventListener('visibilitychange', () => {
    if (isSent || document.visibilityState !== 'hidden') return
    isSent = true
    const report = JSON.stringify({ page: route.description, ...found })
    navigator.sendBeacon('${reportPath}', new Blob([report], { type: 'application/json' }))
  })
})()
`
