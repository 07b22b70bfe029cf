import { type Html, html } from 'rung'
import type { Static } from 'typebox'
import type { One } from '../../articles/shapes.ts'
import type { Comment } from '../../comments/shapes.ts'
import { button, field } from '../forms.ts'
import { articlePath, profilePath, type Viewer } from '../layout.ts'
import { byline, heart, type Standing, tagList } from './articles.ts'

type Article = Static<typeof One>['article']

export interface ArticlePage {
  article: Article
  body: Html
  comments: readonly Static<typeof Comment>[]
  standing: Standing
  following: boolean
}

export function articlePage({ article, body, comments, standing, following }: ArticlePage): Html {
  const { viewer, at } = standing
  const { author, slug } = article
  const own = viewer?.username === author.username
  const actions = html`<div class="actions">${
    own
      ? html`<a class="button" href="/editor/${encodeURIComponent(slug)}">Edit</a>
        ${button(`${articlePath(slug)}/delete`, 'Delete', { look: 'danger', confirm: 'Delete this article for good?' })}`
      : html`${followButton(author.username, following, viewer, at)}${heart(article, standing, true)}`
  }</div>`
  const reported = own ? null : html` data-views="/api/articles/${encodeURIComponent(slug)}/views"`
  return html`<article class="article"${reported}>
    <header>
      <h1>${article.title}</h1>
      <p class="lead">${article.description}</p>
      <div class="meta">${byline(author, article.createdAt)}${actions}</div>
    </header>
    <div class="prose">${body}</div>
    ${tagList(article.tagList)}
  </article>
  ${discussion(slug, comments, viewer)}`
}

export function followButton(username: string, following: boolean, viewer: Viewer | null, at: string): Html {
  const words = `${following ? 'Unfollow' : 'Follow'} ${username}`
  if (!viewer) return html`<a class="button" href="/login">${words}</a>`
  const form = button(`${profilePath(username)}/follow`, words, {
    fields: { following: String(!following), back: at },
    part: 'follow',
    look: following ? 'on' : '',
  })
  return html`<span id="follow">${form}</span>`
}

function discussion(slug: string, comments: ArticlePage['comments'], viewer: Viewer | null): Html {
  const path = articlePath(slug)
  return html`<section class="discussion" id="discussion" aria-label="Comments">
    <h2>Comments</h2>
    ${
      viewer
        ? html`<form method="post" action="${path}/comments" data-part="discussion">
            ${field({ name: 'body', label: 'Your comment', type: 'lines', rows: 3, required: true, maxLength: 10_000 })}
            <button class="primary">Post comment</button>
          </form>`
        : html`<p><a href="/login">Sign in</a> or <a href="/register">sign up</a> to comment.</p>`
    }
    ${comments.length === 0 && html`<p class="none">Nobody has commented yet.</p>`}
    <ol class="comments">${comments.map(
      (comment) => html`<li id="comment-${comment.id}">
        <p class="lines">${comment.body}</p>
        <div class="meta">${byline(comment.author, comment.createdAt)}${
          viewer?.username === comment.author.username &&
          button(`${path}/comments/${comment.id}/delete`, html`Delete<span class="unseen"> your comment</span>`, {
            part: 'discussion',
            look: 'plain danger',
          })
        }</div>
      </li>`,
    )}</ol>
  </section>`
}
