import { type Html, html } from 'rung'
import { complaints, field, text } from '../forms.ts'
import type { Sent } from './accounts.ts'

/** `slug`: of the article that is changed. */
export function editor({ filled, messages }: Sent, slug?: string): Html {
  const action = slug === undefined ? '/editor' : `/editor/${encodeURIComponent(slug)}`
  return html`<section class="wide container">
    <h1>${slug === undefined ? 'New Article' : 'Edit Article'}</h1>
    ${complaints(messages, { title: 'Title', description: 'What it is about', body: 'Text', tags: 'Tags' })}
    <form method="post" action="${action}">
      ${field({ name: 'title', label: 'Title', required: true, maxLength: 255, value: text(filled, 'title') }, messages)}
      ${field({ name: 'description', label: 'What it is about', required: true, maxLength: 1_000, value: text(filled, 'description') }, messages)}
      ${field({ name: 'body', label: 'Text', type: 'lines', rows: 16, required: true, hint: 'Markdown: **bold**, *italic*, # heading, - list, `code`.', value: text(filled, 'body') }, messages)}
      ${field({ name: 'tags', label: 'Tags', placeholder: 'Enter tags', hint: 'With commas between them.', maxLength: 2_000, value: text(filled, 'tags') }, messages)}
      <ul class="tag-list" aria-label="Added already" data-tags="tags"></ul>
      <button type="submit" class="btn btn-primary">Publish Article</button>
    </form>
  </section>`
}
