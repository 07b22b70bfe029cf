const slugMax = 100
/** `/api/articles/feed` and the like are something else. */
const taken = new Set(['feed', 'search'])

/** `Ein Äpfel & more!` → `ein-äpfel-more`. Letters and digits of every script stay; what has none is called `article`. */
export function slugOf(title: string): string {
  const words =
    title
      .normalize('NFKC')
      .toLowerCase()
      .match(/[\p{L}\p{N}]+/gu) ?? []
  const slug = [...words.join('-')].slice(0, slugMax).join('').replace(/-$/, '') || 'article'
  return taken.has(slug) ? `${slug}-article` : slug
}

/** For the second article of one title: `my-title-x7k2mqpa`. */
export function withSuffix(slug: string): string {
  const suffix = Array.from(crypto.getRandomValues(new Uint8Array(8)), (byte) => (byte % 36).toString(36)).join('')
  return `${slug}-${suffix}`
}
