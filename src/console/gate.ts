import { createHash } from 'node:crypto'
import { sameText } from '../kernel/same-text.ts'

/** What the console knows of a request before it does anything. */
export interface Caller {
  readonly method: string
  /** As the client names the server: `127.0.0.1:4600`. */
  readonly host: string | undefined
  readonly origin: string | undefined
  readonly cookie: string | undefined
  /** Of the address: `?token=…`. */
  readonly token: string | undefined
}

export interface GateSettings {
  readonly token: string
  /** What addresses the browser may use: `http://127.0.0.1:4600`. */
  readonly origins: readonly string[]
  /** Whether the console changes anything. */
  readonly acts: boolean
}

export type Verdict =
  | { readonly enters: true }
  /** The token is in the address: it moves into this cookie, so that it stays out of the history and of links. */
  | { readonly enters: false; readonly setCookie: string }
  | { readonly enters: false; readonly status: 401 | 403 | 421; readonly why: string }

/** Browsers send cookies of 127.0.0.1 to all ports: its name tells the consoles of several apps apart. */
const cookieName = (token: string) => `rung-console-${createHash('sha256').update(token).digest('hex').slice(0, 8)}`

/**
 * Decides who may enter. Pure.
 *
 * - A name of the server that is not known is refused before anything else: a page whose own name leads to 127.0.0.1 (DNS rebinding) has
 *   the browser's trust for that name, so it must have none here.
 * - Without the token nothing is answered, whatever is asked for.
 * - What changes something must come from the console's own pages: browsers name the origin with every POST.
 */
export function verdictOn(caller: Caller, { token, origins, acts }: GateSettings): Verdict {
  const hosts = origins.map((origin) => new URL(origin).host)
  if (caller.host === undefined || !hosts.includes(caller.host.toLowerCase()))
    return refused(
      421,
      `This console is not at ${caller.host ?? 'an address without a name'}. If a proxy is in front of it, start it with --origin.`,
    )
  const name = cookieName(token)
  const isRead = caller.method === 'GET' || caller.method === 'HEAD'
  if (isRead && caller.token !== undefined && sameText(caller.token, token)) {
    const isSecure = origins.every((origin) => origin.startsWith('https:'))
    const flags = `Path=/; Max-Age=2592000; HttpOnly; SameSite=Strict${isSecure ? '; Secure' : ''}`
    return { enters: false, setCookie: `${name}=${token}; ${flags}` }
  }
  const cookies = (caller.cookie ?? '').split(';').map((pair) => pair.trim())
  const given = cookies.find((pair) => pair.startsWith(`${name}=`))?.slice(name.length + 1)
  if (given === undefined || !sameText(given, token))
    return refused(401, 'Open the address with the token that "rung console" prints.')
  if (isRead) return { enters: true }
  if (caller.origin === undefined || !origins.includes(caller.origin))
    return refused(403, 'Another site may not use this console.')
  if (!acts) return refused(403, 'This console only shows. Start it with RUNG_CONSOLE=act, or run: rung console --act')
  return { enters: true }
}

function refused(status: 401 | 403 | 421, why: string): Verdict {
  return { enters: false, status, why }
}
