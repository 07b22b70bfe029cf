import { type Html, html, inThread, isRungError, rawHtml } from 'rung'
import type { default as render } from './render.ts'

/** Up to this length even the worst text (`![[![[…`) takes about a millisecond: its time grows with the square of its length. */
const inPlaceMax = 1_000
const inOwnThread = inThread<string, string>(new URL('./render.ts', import.meta.url), {
  timeout: '250ms',
  costOf: (text) => text.length,
})
let inPlace: Promise<typeof render> | undefined

/**
 * What people write, as HTML. What takes too long to render is shown as it was written.
 * @throws THREAD_BUSY while too many texts of others wait: it throws instead of returning a fallback, so that the fallback is not cached
 */
export async function rendered(text: string): Promise<Html> {
  if (text.length <= inPlaceMax) {
    inPlace ??= import('./render.ts').then((module) => module.default) // a process that shows no article does without it
    return rawHtml((await inPlace)(text))
  }
  try {
    return rawHtml(await inOwnThread(text))
  } catch (error) {
    if (!isRungError(error, 'THREAD_TIMEOUT')) throw error
    return html`<pre class="as-written">${text}</pre>`
  }
}
