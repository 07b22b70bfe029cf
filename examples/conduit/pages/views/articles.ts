import { type Html, html, rawHtml } from 'rung'
import type { Static } from 'typebox'
import type { Found, Many } from '../../articles/shapes.ts'
import { button, signInButton } from '../forms.ts'
import { articlePath, type Place, pager, picture, profilePath, tagPath, time, type Viewer } from '../layout.ts'

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

/** Who wrote it and when. */
export function byline(author: { username: string; image: string | null }, at: string): Html {
  return html`<div class="byline">${picture(author, 32, 'author-img')}<div>
    <a class="author" href="${profilePath(author.username)}" rel="author">${author.username}</a>${time(at)}
  </div></div>`
}

export function heart(
  { slug, title, favoritesCount }: Listed,
  { viewer, favorited, at }: Standing,
  long = false,
): Html {
  const on = favorited.has(slug)
  const word = on ? 'Unfavorite' : 'Favorite'
  const count = html`<span aria-hidden="true">♥</span> <span>${favoritesCount}</span>`
  const label = html`${count}<span class="${long ? 'words' : 'unseen'}"> ${long ? word : `${word} “${title}”`}</span>`
  const part = `heart-${slug}`
  const look = `heart ${on ? 'btn-primary' : 'btn-outline-primary'}`
  if (!viewer) return signInButton(articlePath(slug), label, look)
  const form = button(`${articlePath(slug)}/favorite`, label, {
    ...{ fields: { favorite: String(!on), back: at }, part, look },
  })
  return html`<span id="${part}">${form}</span>`
}

/** `current`: the tag whose articles are shown. */
export function tagList(tags: readonly string[], current?: string): Html | undefined {
  if (tags.length === 0) return undefined
  return html`<ul class="tag-list" aria-label="Tags">${tags.map(
    (tag) =>
      html`<li><a class="tag-default tag-pill" href="${tagPath(tag)}"${tag === current && html` aria-current="page"`}>${tag}</a></li>`,
  )}</ul>`
}

function preview(article: Listed | FoundArticle, standing: Standing): Html {
  const { slug, title, description, author, createdAt, tagList: tags } = article
  const found = 'highlights' in article ? article.highlights : {}
  const shown = (name: 'title' | 'description', text: string) =>
    found[name] === undefined ? text : rawHtml(found[name])
  return html`<li><article class="article-preview">
    <div class="article-meta">${byline(author, createdAt)}${heart(article, standing)}</div>
    <a class="preview-link" href="${articlePath(slug)}">
      <h1>${shown('title', title)}</h1>
      <p>${shown('description', description)}</p>
    </a>
    ${found.body !== undefined && html`<p class="found">${rawHtml(found.body)}</p>`}
    ${tagList(tags)}
  </article></li>`
}

/** A page of a list, and the way to the others. */
export function list(
  articles: readonly (Listed | FoundArticle)[],
  standing: Standing,
  { total, none, ...place }: Place & { total: number; none: string | Html },
): Html {
  if (articles.length === 0) return html`<p class="empty-feed-message">${none}</p>`
  return html`<ul class="previews">${articles.map((article) => preview(article, standing))}</ul>
  ${pager(total, place)}`
}
