import { type Html, html } from 'rung'
import { link, profilePath, type Viewer } from '../layout.ts'
import { followButton } from './article.ts'
import { picture } from './articles.ts'

export interface ProfilePage {
  profile: { username: string; bio: string | null; image: string | null }
  following: boolean
  viewer: Viewer | null
  at: string
  list: Html
}

export function profilePage({ profile, following, viewer, at, list }: ProfilePage): Html {
  const { username, bio, image } = profile
  const path = profilePath(username)
  return html`<section class="profile" aria-label="Profile">
    ${picture(image, 96)}
    <h1>${username}</h1>
    ${bio !== null && html`<p class="lines">${bio}</p>`}
    ${
      viewer?.username === username
        ? html`<a class="button" href="/settings">Edit your settings</a>`
        : followButton(username, following, viewer, at)
    }
  </section>
  <section aria-label="Articles">
    <nav class="tabs" aria-label="Lists">
      ${link(path, 'Articles', at)}
      ${link(`${path}/favorites`, 'Favorites', at)}
    </nav>
    ${list}
  </section>`
}
