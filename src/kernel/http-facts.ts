/** Facts of HTTP on which the app, the page cache and the supervisor must agree. */

/** Default time limit of a request (`http.requestTimeout`). A stop waits this long for requests in progress. */
export const requestTimeoutDefaultMs = 30_000

/** Over HTTPS the name's prefix binds the cookie to its host. A page cache knows both names and never caches requests with one. */
export const sessionCookieNames = { secure: '__Host-session', plain: 'session' } as const

/** Below this path processes of a fleet call modules of each other. The balancer leads nobody else there. */
export const callsPath = '/-/calls/'

/** Below this path the challenges of an ACME client are found (RFC 8555, 8.3). */
export const acmePath = '/.well-known/acme-challenge/'

/**
 * Routes that no reader of the app waits for: health, metrics, what the page cache asks, and measurements that browsers report. A regular
 * expression of JavaScript and of PromQL, without anchors. Files and assets below `/-/` are not among them.
 */
export const ownRoutes = '/healthz|/readyz|/metrics|/-/edge/.*|/-/vitals'

const whole = new RegExp(`^(?:${ownRoutes})$`)
export const isOwnRoute = (route: string): boolean => whole.test(route)
/** Finds such a route among the labels of a metric, in the text of `/metrics`. */
export const ownRouteLabel = new RegExp(`route="(?:${ownRoutes})"`)
