import { type Html, rawHtml } from 'rung'

let renderer: ReturnType<typeof createRenderer> | undefined

/** What people write, as HTML. Costs about a millisecond for each 50 KB. */
export async function rendered(text: string): Promise<Html> {
  renderer ??= createRenderer() // a process that shows no article does without it
  return rawHtml((await renderer).render(text))
}

/** `html: false`: what looks like a tag is shown as text. Links of other kinds than http, https and mailto are none. */
async function createRenderer() {
  const { default: markdownIt } = await import('markdown-it')
  const markdown = markdownIt({ html: false, linkify: true, typographer: true })
  // The title of the article is the first heading of the page. Whoever is linked to has no part in it.
  markdown.core.ruler.push('conduit', ({ tokens }) => {
    for (const token of tokens) {
      if (token.type === 'heading_open' || token.type === 'heading_close') {
        token.tag = `h${Math.min(6, Number(token.tag.slice(1)) + 1)}`
      }
      for (const child of token.children ?? []) {
        if (child.type === 'link_open') child.attrSet('rel', 'nofollow ugc')
      }
    }
  })
  return markdown
}
