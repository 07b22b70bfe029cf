import { type Html, html } from 'rung'
import { initialsPath } from './initials.ts'

/** Who looks at a page, as far as every page shows it. */
export interface Viewer {
  id: number
  username: string
  image: string | null
}

export interface Content {
  title: string
  main: Html
  /** Path of the page, for the navigation. */
  at?: string
  /** Text in the field of the search. */
  query?: string | undefined
}

export type Layout = (viewer: Viewer | null, content: Content) => Html

/** What all pages have around what they show. */
export function layoutWith(asset: (name: string) => string): Layout {
  const [tokens, style, script, icon] = [asset('tokens.css'), asset('style.css'), asset('app.js'), asset('icon.svg')]
  return (viewer, { title, main, at, query }) => html`<!doctype html>
<html lang="en">
<head>
  <meta charset="utf-8">
  <meta name="viewport" content="width=device-width, initial-scale=1">
  <meta name="color-scheme" content="light dark">
  <title>${title}</title>
  <link rel="icon" href="${icon}" type="image/svg+xml">
  <link rel="stylesheet" href="${tokens}">
  <link rel="stylesheet" href="${style}">
  <script type="module" src="${script}"></script>
</head>
<body>
  <a class="skip" href="#main">Skip to content</a>
  <header class="top">
    <nav class="navbar container" aria-label="Main">
      <a class="navbar-brand" href="/">conduit</a>
      <form class="search" role="search" action="/search">
        <input type="search" name="q" value="${query}" placeholder="Search" aria-label="Search articles" required maxlength="200">
      </form>
      <div class="nav">
        ${link('/', 'Home', at)}
        ${viewer ? viewersLinks(viewer, at) : [link('/login', 'Sign in', at), link('/register', 'Sign up', at)]}
      </div>
    </nav>
  </header>
  <main id="main" tabindex="-1">${main}</main>
  <footer class="bottom">
    <p class="container"><a href="/">conduit</a> is an example of what is built with Rung. <a href="/reference">Its API</a></p>
  </footer>
</body>
</html>
`
}

function viewersLinks(viewer: Viewer, at: string | undefined): Html[] {
  return [
    link('/editor', 'New Article', at),
    link('/settings', 'Settings', at),
    link(profilePath(viewer.username), html`${picture(viewer, 24, 'user-pic')}${viewer.username}`, at),
  ]
}

export function link(path: string, text: string | Html, at: string | undefined): Html {
  const isHere = path === at
  return html`<a class="nav-link${isHere && ' active'}" href="${path}"${isHere && html` aria-current="page"`}>${text}</a>`
}

/** The picture that somebody has chosen, otherwise their initials. Only addresses of the web and of this app are pictures. */
export function picture(who: { username: string; image: string | null }, size: number, look: string): Html {
  // Browsers read a backslash as a slash, and leave tabs and line breaks out: each could make a path the address of another host.
  const isAllowed = /^(https?:\/\/|\/(?!\/))[^\\\p{Cc}]*$/iu
  const chosen = who.image !== null && isAllowed.test(who.image) ? who.image : undefined
  return html`<img class="picture ${look}" src="${chosen ?? initialsPath(who.username)}" alt="" width="${size}" height="${size}" decoding="async">`
}

export const articlePath = (slug: string) => `/article/${encodeURIComponent(slug)}`
export const tagPath = (tag: string) => `/tag/${encodeURIComponent(tag)}`
export const feedPath = '/?feed=following'
export const profilePath = (username: string) => `/profile/${encodeURIComponent(username)}`

export const pageSize = 10

type Query = Readonly<Record<string, string | number | undefined>>

/** A page of a list: where it is, and what its address says besides the page. */
export interface Place {
  path: string
  query?: Query
  page: number
}

/** Returns an address, without what is not set, and without the number of a first page. */
export function href(path: string, query: Query): string {
  const given = Object.entries(query).filter(
    ([name, value]) => value !== undefined && !(name === 'page' && value === 1),
  )
  const text = new URLSearchParams(given.map(([name, value]): [string, string] => [name, String(value)])).toString()
  return text === '' ? path : `${path}?${text}`
}

/** The pages of a list: buttons with numbers, between links to the ones before and after. */
export function pager(total: number, { path, query = {}, page }: Place): Html | undefined {
  const last = Math.ceil(total / pageSize)
  if (last <= 1) return undefined
  const to = (other: number) => href(path, { ...query, page: other })
  const hidden = Object.entries(query).filter(([, value]) => value !== undefined)
  return html`<form class="pager" role="navigation" aria-label="Pages" action="${path}">
    ${hidden.map(([name, value]) => html`<input type="hidden" name="${name}" value="${value}">`)}
    ${page > 1 && html`<a rel="prev" href="${to(page - 1)}">Newer</a>`}
    <ul class="pagination">${numbersAround(page, last).map((number) =>
      number === undefined
        ? html`<li class="gap" aria-hidden="true">…</li>`
        : html`<li class="page-item${number === page && ' active'}"><button type="submit" class="page-link" name="page" value="${number}" aria-label="Page ${number} of ${last}"${number === page && html` aria-current="page"`}>${number}</button></li>`,
    )}</ul>
    ${page < last && html`<a rel="next" href="${to(page + 1)}">Older</a>`}
  </form>`
}

/** The first, the last, and those around this one; `undefined` where some are left out. */
export function numbersAround(page: number, last: number): (number | undefined)[] {
  const shown = [1, page - 1, page, page + 1, last].filter((number) => number >= 1 && number <= last)
  const numbers = [...new Set(shown)].sort((a, b) => a - b)
  return numbers.flatMap((number, n) => {
    const before = numbers[n - 1] ?? 0
    if (number - before === 2) return [number - 1, number]
    return number - before > 2 ? [undefined, number] : [number]
  })
}

const day = new Intl.DateTimeFormat('en-GB', { dateStyle: 'long', timeZone: 'UTC' })

export function time(iso: string): Html {
  return html`<time datetime="${iso}">${day.format(new Date(iso))}</time>`
}
