/** Facts of HTTP on which the app, the page cache and the supervisor must agree. */

/** Default time limit of a request (`http.requestTimeout`). A stop waits this long for requests in progress. */
export const requestTimeoutDefaultMs = 30_000

/** Over HTTPS the name's prefix binds the cookie to its host. A page cache knows both names and never caches requests with one. */
export const sessionCookieNames = { secure: '__Host-session', plain: 'session' } as const

/** Below this path the challenges of an ACME client are found (RFC 8555, 8.3). */
export const acmePath = '/.well-known/acme-challenge/'
