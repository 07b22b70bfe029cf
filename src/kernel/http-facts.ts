/** Facts of HTTP on which the app, the page cache and the supervisor must agree. */

/** How long a request may take, unless the app says otherwise (`http.requestTimeout`). What stops later gives it this time. */
export const requestTimeoutDefaultMs = 30_000

/** With HTTPS the name binds the cookie to its host. A page cache must know both: requests with one are never cached. */
export const sessionCookieNames = { secure: '__Host-session', plain: 'session' } as const
