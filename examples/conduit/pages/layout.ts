import { type Html, html } from 'rung'

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
  const [style, script, icon] = [asset('style.css'), asset('app.js'), asset('icon.svg')]
  return (viewer, { title, main, at, query }) => html`<!doctype html>
<html lang="en">
<head>
  <meta charset="utf-8">
  <meta name="viewport" content="width=device-width, initial-scale=1">
  <meta name="color-scheme" content="light dark">
  <title>${title}</title>
  <link rel="icon" href="${icon}" type="image/svg+xml">
  <link rel="stylesheet" href="${style}">
  <script type="module" src="${script}"></script>
</head>
<body>
  <a class="skip" href="#main">Skip to content</a>
  <header class="top">
    <a class="brand" href="/">conduit</a>
    <form class="search" role="search" action="/search">
      <input type="search" name="q" value="${query}" placeholder="Search" aria-label="Search articles" required maxlength="200">
    </form>
    <nav aria-label="Main">
      ${viewer ? viewersLinks(viewer, at) : [link('/login', 'Sign in', at), link('/register', 'Sign up', at)]}
    </nav>
  </header>
  <main id="main" tabindex="-1">${main}</main>
  <footer class="bottom">
    <p><a href="/">conduit</a> is an example of what is built with Rung. <a href="/reference">Its API</a></p>
  </footer>
</body>
</html>
`
}

function viewersLinks(viewer: Viewer, at: string | undefined): Html[] {
  return [
    link('/editor', 'New article', at),
    link('/settings', 'Settings', at),
    link(profilePath(viewer.username), viewer.username, at),
    html`<form method="post" action="/logout"><button class="plain">Sign out</button></form>`,
  ]
}

export function link(path: string, text: string, at: string | undefined): Html {
  return html`<a href="${path}"${path === at && html` aria-current="page"`}>${text}</a>`
}

export const articlePath = (slug: string) => `/article/${encodeURIComponent(slug)}`
export const profilePath = (username: string) => `/profile/${encodeURIComponent(username)}`

export const pageSize = 10

/** Links to the pages of a list. */
export function pager(total: number, page: number, hrefOf: (page: number) => string): Html | undefined {
  const last = Math.ceil(total / pageSize)
  if (last <= 1) return undefined
  return html`<nav class="pager" aria-label="Pages">
    ${page > 1 && html`<a rel="prev" href="${hrefOf(page - 1)}">Newer</a>`}
    <span>Page ${page} of ${last}</span>
    ${page < last && html`<a rel="next" href="${hrefOf(page + 1)}">Older</a>`}
  </nav>`
}

const day = new Intl.DateTimeFormat('en-GB', { dateStyle: 'long', timeZone: 'UTC' })

export function time(iso: string): Html {
  return html`<time datetime="${iso}">${day.format(new Date(iso))}</time>`
}
