import { type Html, html } from 'rung'
import type { Static } from 'typebox'
import type { One } from '../../articles/shapes.ts'
import type { Comment } from '../../comments/shapes.ts'
import { button, signInButton } from '../forms.ts'
import { articlePath, picture, profilePath, time, type Viewer } from '../layout.ts'
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
  const { viewer } = standing
  const { author, slug } = article
  const own = viewer?.username === author.username
  const actions = html`<div class="actions">${
    own
      ? html`<a class="btn btn-outline-secondary" href="/editor/${encodeURIComponent(slug)}">Edit Article</a>
        ${button(`${articlePath(slug)}/delete`, 'Delete Article', { look: 'btn-outline-danger' })}`
      : html`${followButton(author.username, following, standing, articlePath(slug))}${heart(article, standing, true)}`
  }</div>`
  const reported = own ? null : html` data-views="/api/articles/${encodeURIComponent(slug)}/views"`
  return html`<article class="article-page container"${reported}>
    <header>
      <h1>${article.title}</h1>
      <p class="lead">${article.description}</p>
      <div class="article-meta">${byline(author, article.createdAt)}${actions}</div>
    </header>
    <div class="article-content prose">${body}</div>
    ${tagList(article.tagList)}
  </article>
  ${discussion(slug, comments, viewer)}`
}

/** `path`: the page with this button, for visitors who have to sign in before they can use it. */
export function followButton(
  username: string,
  following: boolean,
  { viewer, at }: Pick<Standing, 'viewer' | 'at'>,
  path: string,
): Html {
  const words = `${following ? 'Unfollow' : 'Follow'} ${username}`
  const look = following ? 'btn-secondary' : 'btn-outline-secondary'
  if (!viewer) return signInButton(path, words, look)
  const form = button(`${profilePath(username)}/follow`, words, {
    ...{ fields: { following: String(!following), back: at }, part: 'follow', look },
  })
  return html`<span id="follow">${form}</span>`
}

function discussion(slug: string, comments: ArticlePage['comments'], viewer: Viewer | null): Html {
  const path = articlePath(slug)
  const signIn = `/login?to=${encodeURIComponent(path)}`
  return html`<section class="discussion container" id="discussion" aria-label="Comments">
    <h2>Comments</h2>
    ${
      viewer
        ? html`<form class="card comment-form" method="post" action="${path}/comments" data-part="discussion">
            <div class="card-block"><textarea name="body" rows="3" placeholder="Write a comment..." aria-label="Your comment" required maxlength="10000"></textarea></div>
            <div class="card-footer">${picture(viewer, 28, 'comment-author-img')}<button type="submit" class="btn btn-primary">Post Comment</button></div>
          </form>`
        : html`<p><a href="${signIn}">Sign in</a> or <a href="/register">sign up</a> to comment.</p>`
    }
    ${comments.length === 0 && html`<p class="quiet">Nobody has commented yet.</p>`}
    <ol class="comments">${comments.map((comment) => commentCard(path, comment, viewer))}</ol>
  </section>`
}

function commentCard(
  path: string,
  { id, body, author, createdAt }: ArticlePage['comments'][number],
  viewer: Viewer | null,
): Html {
  return html`<li class="card" id="comment-${id}">
    <div class="card-block"><p class="lines">${body}</p></div>
    <div class="card-footer">${picture(author, 28, 'comment-author-img')}
      <a class="comment-author" href="${profilePath(author.username)}" rel="author">${author.username}</a>${time(createdAt)}
      ${
        viewer?.username === author.username &&
        html`<span class="mod-options">${button(`${path}/comments/${id}/delete`, html`<i class="ion-trash-a"></i>`, {
          ...{ part: 'discussion', look: 'btn-icon', name: 'Delete what you wrote' },
        })}</span>`
      }
    </div>
  </li>`
}
