import { type Html, html, rawHtml } from 'rung'
import type { Static } from 'typebox'
import type { Found, Many } from '../../articles/shapes.ts'
import { button } from '../forms.ts'
import { articlePath, pager, profilePath, time, type Viewer } from '../layout.ts'

/** As everybody sees it; a value that was kept is not to be changed. */
export type Listed = Static<typeof Many>['articles'][number]
type FoundArticle = Static<typeof Found>['articles'][number]

export interface Standing {
  viewer: Viewer | null
  /** Slugs of those that the viewer favours. */
  favorited: ReadonlySet<string>
  /** Where a form leads back to. */
  at: string
}

export function picture(image: string | null, size: number): Html {
  const src = image !== null && /^(https?:\/\/|\/(?!\/))/i.test(image) ? image : undefined
  if (src === undefined) return html`<span class="picture" aria-hidden="true"></span>`
  return html`<img class="picture" src="${src}" alt="" width="${size}" height="${size}" loading="lazy" decoding="async">`
}

export function byline(author: { username: string; image: string | null }, at: string): Html {
  return html`<div class="byline">${picture(author.image, 32)}<div>
    <a href="${profilePath(author.username)}" rel="author">${author.username}</a>${time(at)}
  </div></div>`
}

export function heart(
  { slug, title, favoritesCount }: Listed,
  { viewer, favorited, at }: Standing,
  long = false,
): Html {
  const on = favorited.has(slug)
  const count = html`<span aria-hidden="true">♥</span> <span>${favoritesCount}</span>`
  const words = `${on ? 'Unfavorite' : 'Favorite'} “${title}”`
  const label = html`${count}<span class="${long ? 'words' : 'unseen'}"> ${long ? (on ? 'Unfavorite' : 'Favorite') : words}</span>`
  const part = `heart-${slug}`
  if (!viewer) return html`<a class="button heart" href="/login">${label}</a>`
  const form = button(`${articlePath(slug)}/favorite`, label, {
    fields: { favorite: String(!on), back: at },
    part,
    look: on ? 'heart on' : 'heart',
  })
  return html`<span id="${part}">${form}</span>`
}

export function tagList(tags: readonly string[]): Html | undefined {
  if (tags.length === 0) return undefined
  return html`<ul class="tags" aria-label="Tags">${tags.map(
    (tag) => html`<li><a href="/?tag=${encodeURIComponent(tag)}">${tag}</a></li>`,
  )}</ul>`
}

function preview(article: Listed | FoundArticle, standing: Standing): Html {
  const { slug, title, description, author, createdAt, tagList: tags } = article
  const found = 'highlights' in article ? article.highlights : {}
  const shown = (name: 'title' | 'description', text: string) =>
    found[name] === undefined ? text : rawHtml(found[name])
  return html`<li><article class="preview">
    <header>${byline(author, createdAt)}${heart(article, standing)}</header>
    <h2><a href="${articlePath(slug)}">${shown('title', title)}</a></h2>
    <p>${shown('description', description)}</p>
    ${found.body !== undefined && html`<p class="found">${rawHtml(found.body)}</p>`}
    ${tagList(tags)}
  </article></li>`
}

/** A page of a list, and the way to the others. */
export function list(
  articles: readonly (Listed | FoundArticle)[],
  standing: Standing,
  { total, page, hrefOf, none }: { total: number; page: number; hrefOf: (page: number) => string; none: string | Html },
): Html {
  if (articles.length === 0) return html`<p class="none">${none}</p>`
  return html`<ul class="previews">${articles.map((article) => preview(article, standing))}</ul>
  ${pager(total, page, hrefOf)}`
}
