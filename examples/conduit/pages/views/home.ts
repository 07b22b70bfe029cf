import { type Html, html } from 'rung'
import { link } from '../layout.ts'

export interface Home {
  /** The list that is shown, and its name in the tabs. */
  list: Html
  at: string
  signedIn: boolean
  tag: string | undefined
  tags: readonly string[]
}

export function home({ list, at, signedIn, tag, tags }: Home): Html {
  return html`${!signedIn && html`<section class="banner"><h1>conduit</h1><p>A place to share what you know.</p></section>`}
  ${signedIn && html`<h1 class="unseen">Articles</h1>`}
  <div class="columns">
    <section aria-label="Articles">
      <nav class="tabs" aria-label="Lists">
        ${signedIn && link('/feed', 'Your feed', at)}
        ${link('/', 'All articles', at)}
        ${tag !== undefined && html`<a href="/?tag=${encodeURIComponent(tag)}" aria-current="page">#${tag}</a>`}
      </nav>
      ${list}
    </section>
    <aside aria-label="Popular tags">
      <h2>Popular tags</h2>
      ${
        tags.length === 0
          ? html`<p class="none">No tags yet.</p>`
          : html`<ul class="tags">${tags.map(
              (name) =>
                html`<li><a href="/?tag=${encodeURIComponent(name)}"${name === tag && html` aria-current="page"`}>${name}</a></li>`,
            )}</ul>`
      }
    </aside>
  </div>`
}
