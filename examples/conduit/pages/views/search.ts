import { type Html, html } from 'rung'

const facetMax = 10

export interface SearchPage {
  query: string | undefined
  list: Html | undefined
  count: string
  /** The words that were looked for, where others are misspelt. */
  corrected: string | null
  facets: { tags: readonly { tag: string; count: number }[]; authors: readonly { username: string; count: number }[] }
  narrowed: { tag: string | undefined; author: string | undefined }
  hrefOf(changes: { tag?: string | undefined; author?: string | undefined }): string
}

export function searchPage({ query, list, count, corrected, facets, narrowed, hrefOf }: SearchPage): Html {
  if (query === undefined || !list) {
    return html`<section class="narrow container"><h1>Search</h1><p>Type some words, a "phrase", or -a word that must not be there.</p></section>`
  }
  return html`<div class="container"><h1>${count} for “${query}”</h1>
  ${corrected !== null && html`<p>Showing what was found for <strong>${corrected}</strong>.</p>`}</div>
  <div class="container columns">
    <section aria-label="Results">${list}</section>
    ${
      facets.tags.length > 0 &&
      html`<aside class="sidebar" aria-label="Narrow down">
      ${facet(
        'Tags',
        facets.tags.map(({ tag, count }) => ({
          name: tag,
          count,
          on: tag === narrowed.tag,
          href: hrefOf({ tag: tag === narrowed.tag ? undefined : tag }),
        })),
      )}
      ${facet(
        'Authors',
        facets.authors.map(({ username, count }) => ({
          name: username,
          count,
          on: username === narrowed.author,
          href: hrefOf({ author: username === narrowed.author ? undefined : username }),
        })),
      )}
    </aside>`
    }
  </div>`
}

function facet(title: string, values: { name: string; count: number; on: boolean; href: string }[]): Html | undefined {
  if (values.length === 0) return undefined
  const shown = values.slice(0, facetMax)
  return html`<h2>${title}</h2>
  <ul class="facet">${shown.map(
    ({ name, count, on, href }) =>
      html`<li><a href="${href}"${on && html` aria-current="true"`}>${name}</a> <span>${count}</span></li>`,
  )}</ul>`
}
