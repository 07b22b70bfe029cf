import type { Http } from 'rung'
import { type Html, html } from 'rung'
import { Type } from 'typebox'

/** The file's name is what themes and tests of Conduit look for: it says that somebody has chosen no picture. */
export const initialsPath = (username: string) => `/initials/${encodeURIComponent(username)}/default-avatar.svg`

/** Serves pictures for people without one. They depend on the name alone, so browsers may keep them. */
export function initials(http: Http): void {
  http.get(
    '/initials/:username/default-avatar.svg',
    {
      schema: { params: Type.Object({ username: Type.String({ maxLength: 255 }) }) },
      config: { anonymous: true, limits: false },
    },
    (request, reply) =>
      reply
        .headers({ 'cache-control': 'public, max-age=86400', 'content-type': 'image/svg+xml; charset=utf-8' })
        .send(String(drawing(request.params.username))),
  )
}

/** White on a dark colour of the name's own: a contrast of at least 5 for every hue (WCAG 2.2, 1.4.3). */
function drawing(username: string): Html {
  const letters = lettersOf(username)
  const hue = hueOf(username)
  return html`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 64 64" width="64" height="64">
  <path fill="hsl(${hue} 40% 32%)" d="M0 0h64v64H0z"/>
  <path fill="hsl(${(hue + 40) % 360} 45% 26%)" d="M0 64 64 ${12 + (hue % 28)}v52z"/>
  <text x="32" y="${letters.length > 1 ? 41 : 43}" font-family="sans-serif" font-size="${letters.length > 1 ? 26 : 32}" font-weight="600" fill="white" text-anchor="middle">${letters}</text>
</svg>
`
}

/** "ann-lee-2" is AL, "Ann" is A; a name without letters has its first sign. */
export function lettersOf(username: string): string {
  const words = username.match(/\p{L}[\p{L}\p{N}]*/gu) ?? [[...username][0] ?? '?']
  const [first, last] = [words[0]!, words.length > 1 ? words.at(-1)! : '']
  return [first, last]
    .map((word) => [...word][0] ?? '')
    .join('')
    .toUpperCase()
}

/** FNV-1a, 32 bits (http://www.isthe.com/chongo/tech/comp/fnv/): near names have far hues. */
function hueOf(username: string): number {
  let hash = 0x811c9dc5
  for (const unit of Buffer.from(username)) hash = Math.imul(hash ^ unit, 0x01000193) >>> 0
  return hash % 360
}
