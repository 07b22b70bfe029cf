import { type Html, html } from 'rung'
import { feedPath, link, tagPath } from '../layout.ts'
import { tagList } from './articles.ts'

export interface Home {
  /** The list that is shown, and its name in the tabs. */
  list: Html
  at: string
  signedIn: boolean
  tag: string | undefined
  tags: readonly string[]
}

export function home({ list, at, signedIn, tag, tags }: Home): Html {
  return html`${signedIn ? html`<h1 class="unseen">Articles</h1>` : banner}
  <div class="container columns">
    <section aria-label="Articles">
      <div class="feed-toggle tabs" role="navigation" aria-label="Lists">
        ${signedIn && link(feedPath, 'Your Feed', at)}
        ${link('/', 'Global Feed', at)}
        ${tag !== undefined && link(tagPath(tag), `# ${tag}`, at)}
      </div>
      ${list}
    </section>
    <aside class="sidebar" aria-label="Popular tags">
      <h2>Popular Tags</h2>
      ${tags.length === 0 ? html`<p class="quiet">No tags yet.</p>` : tagList(tags, tag)}
    </aside>
  </div>`
}

/** Pipes of three widths, behind the name: what flows through a conduit. */
const banner = html`<section class="banner">
    <svg class="pipes" aria-hidden="true" viewBox="0 0 480 160" preserveAspectRatio="xMaxYMid slice">
      <path stroke-width="34" d="M-20 132H206q40 0 40-40V-20"/>
      <path stroke-width="18" d="M110 180V112q0-34 34-34h166q34 0 34-34V-20"/>
      <path stroke-width="8" d="M500 118H316q-26 0-26 26v36M500 96H262"/>
      <circle cx="262" cy="96" r="13"/><circle cx="110" cy="128" r="17"/><circle cx="400" cy="118" r="9"/>
    </svg>
    <div class="container"><h1>conduit</h1><p>A place to share what you know.</p></div>
  </section>`
