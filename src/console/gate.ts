import { createHash } from 'node:crypto'
import { sameText } from '../kernel/same-text.ts'

/** What the console knows of a request before it does anything. */
export interface Caller {
  readonly method: string
  /** As the client names the server: `127.0.0.1:4600`. */
  readonly host: string | undefined
  readonly origin: string | undefined
  /** The first folder of the path: `view` of `/view/fleet`. */
  readonly folder: string
  /** `Authorization: Bearer …` */
  readonly authorization: string | undefined
  /** Of the address: `?pass=…`, see `passOf`. */
  readonly pass: string | undefined
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
  | { readonly enters: false; readonly status: 401 | 403 | 421; readonly why: string }

/** Everything that says something of the app. Other addresses are files of the pages, which are the same for everybody. */
const guarded: readonly string[] = ['about', 'view', 'live', 'content', 'do']
/** A browser asks for these by an address alone, without headers. */
const byAddress: readonly string[] = ['live', 'content']

/** Returns what an address needs in which the token must not stand: it opens this folder, and says nothing of the token. */
export function passOf(folder: string, token: string): string {
  return createHash('sha256').update(`${folder} ${token}`).digest('base64url')
}

/**
 * Decides who may enter. Pure.
 *
 * - A name of the server that is not known is refused before anything else: a page whose own name leads to 127.0.0.1 (DNS rebinding) has
 *   the browser's trust for that name, so it must have none here.
 * - The token comes in a header, never in a cookie: browsers send the cookies of 127.0.0.1 to all its ports, so every other server of the
 *   machine would get it, and its pages could ask with it.
 * - What changes something must also come from the console's own pages: browsers name the origin with every POST.
 */
export function verdictOn(caller: Caller, { token, origins, acts }: GateSettings): Verdict {
  const { method, host, origin, folder, authorization = '', pass } = caller
  const hosts = origins.map((one) => new URL(one).host)
  if (host === undefined || !hosts.includes(host.toLowerCase()))
    return refused(
      421,
      `This console is not at ${host ?? 'an address without a name'}. If a proxy is in front of it, start it with --origin.`,
    )
  const isRead = method === 'GET' || method === 'HEAD'
  if (isRead && !guarded.includes(folder)) return { enters: true }
  const hasToken = sameText(authorization, `Bearer ${token}`)
  const hasPass = isRead && byAddress.includes(folder) && pass !== undefined && sameText(pass, passOf(folder, token))
  if (!hasToken && !hasPass) return refused(401, 'Open the address with the token that "rung console" prints.')
  if (isRead) return { enters: true }
  if (origin === undefined || !origins.includes(origin)) return refused(403, 'Another site may not use this console.')
  if (!acts) return refused(403, 'This console only shows. Start it with RUNG_CONSOLE=act, or run: rung console --act')
  return { enters: true }
}

function refused(status: 401 | 403 | 421, why: string): Verdict {
  return { enters: false, status, why }
}
