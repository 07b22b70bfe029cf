import { systemClock } from '../../kernel/clock.ts'
import { messageOf, RungError } from '../../kernel/errors.ts'
import type { CdnBinding } from '../../topology/bindings.ts'
import type { CdnName } from '../../topology/topology.ts'

/** The API of a CDN. */
interface Vendor {
  /** The header of answers by which pages are purged. */
  tagHeader: 'surrogate-key' | 'cache-tag'
  /** Tags in one call. */
  tagsMax: number
  url: string
  request(id: string, token: string, tags: readonly string[]): { path: string; init: RequestInit }
}

const vendors: Record<CdnName, Vendor> = {
  // Source: Fastly, "Purge API", bulk purge by surrogate keys: 256 in one request.
  fastly: {
    tagHeader: 'surrogate-key',
    tagsMax: 256,
    url: 'https://api.fastly.com',
    request: (id, token, tags) => ({
      path: `/service/${id}/purge`,
      init: { headers: { 'fastly-key': token, 'surrogate-key': tags.join(' '), accept: 'application/json' } },
    }),
  },
  // Source: Cloudflare, "Purge cache", limits: 100 in one request, on every plan.
  cloudflare: {
    tagHeader: 'cache-tag',
    tagsMax: 100,
    url: 'https://api.cloudflare.com/client/v4',
    request: (id, token, tags) => ({
      path: `/zones/${id}/purge_cache`,
      init: {
        headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
        body: JSON.stringify({ tags }),
      },
    }),
  },
}

export function tagHeaderOf(name: CdnName): Vendor['tagHeader'] {
  return vendors[name].tagHeader
}

const callMsMax = 10_000

/**
 * Purges pages by their tags. Once it resolves, the CDN has accepted the purge.
 * @throws CDN_PURGE_FAILED, with `retryAfterS` if the CDN names a time. It is safe to purge again
 */
export async function purgeCdn({ name, url, id, token }: CdnBinding, tags: readonly string[]): Promise<void> {
  const vendor = vendors[name]
  for (let at = 0; at < tags.length; at += vendor.tagsMax) {
    const { path, init } = vendor.request(id, token, tags.slice(at, at + vendor.tagsMax))
    const response = await ask(`${url ?? vendor.url}${path}`, init)
    const text = (await response.text().catch(() => '')).trim()
    if (!response.ok || isFailure(text)) {
      const hint = [401, 403, 404].includes(response.status) ? '. Check RUNG_CDN_ID and RUNG_CDN_TOKEN' : ''
      const retryAfterS = secondsOf(response.headers.get('retry-after'))
      throw failed(`it answered ${response.status} ${text.slice(0, 200)}${hint}`, undefined, retryAfterS)
    }
  }
}

async function ask(url: string, init: RequestInit): Promise<Response> {
  try {
    // A redirect would send the token elsewhere.
    return await fetch(url, { ...init, method: 'POST', redirect: 'error', signal: AbortSignal.timeout(callMsMax) })
  } catch (cause) {
    throw failed(messageOf((cause as Error).cause ?? cause), cause)
  }
}

/** Cloudflare reports failures in the body of a 200. */
function isFailure(text: string): boolean {
  return /"success"\s*:\s*false/.test(text)
}

/** Parses `Retry-After`: seconds or a date. */
function secondsOf(retryAfter: string | null): number | undefined {
  if (retryAfter === null) return undefined
  if (/^\d+$/.test(retryAfter)) return Number(retryAfter)
  const at = Date.parse(retryAfter)
  return Number.isNaN(at) ? undefined : Math.max(0, Math.ceil((at - systemClock.now()) / 1_000))
}

function failed(why: string, cause?: unknown, retryAfterS?: number): RungError {
  return new RungError('CDN_PURGE_FAILED', `The CDN was not purged: ${why}. Rung tries again.`, {
    cause,
    facts: retryAfterS === undefined ? {} : { retryAfterS },
  })
}
