import type { CdnName } from './topology.ts'

/** How values of a CDN look, wherever they are written. */

export const cdnNames: readonly CdnName[] = ['fastly', 'cloudflare']
/** In the environment, where the file names one. */
export const noCdn = 'off'

export function isCdnId(text: string): boolean {
  return /^[\w-]+$/.test(text)
}

export function isCdnUrl(text: string): boolean {
  return /^https?:\/\/[^?#@]*[^/?#@]$/.test(text) && URL.canParse(text)
}

export const cdnIdIs = 'the id of the service (Fastly) or the zone (Cloudflare)'
export const cdnUrlMust = 'have the form https://api.example.org, without a slash at its end'
