import { type Html, html } from 'rung'

/** Instead of the page that was asked for. */
export function problemPage(title: string, what: string): Html {
  return html`<section class="narrow container"><h1>${title}</h1><p>${what}</p><p><a href="/">To the articles</a></p></section>`
}
