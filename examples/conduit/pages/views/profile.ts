import { type Html, html } from 'rung'
import { link, picture, profilePath, type Viewer } from '../layout.ts'
import { followButton } from './article.ts'

export interface ProfilePage {
  profile: { username: string; bio: string | null; image: string | null }
  following: boolean
  viewer: Viewer | null
  at: string
  list: Html
}

export function profilePage({ profile, following, viewer, at, list }: ProfilePage): Html {
  const { username, bio } = profile
  const path = profilePath(username)
  return html`<div class="profile-page">
    <section class="user-info container" aria-label="Profile">
      ${picture(profile, 96, 'user-img')}
      <h4>${username}</h4>
      <p class="lines">${bio}</p>
      ${
        viewer?.username === username
          ? html`<a class="btn btn-outline-secondary" href="/settings">Edit Profile Settings</a>`
          : followButton(username, following, { viewer, at }, path)
      }
    </section>
    <section class="container" aria-label="Articles">
      <div class="articles-toggle tabs" role="navigation" aria-label="Lists">
        ${link(path, 'Articles', at)}
        ${link(`${path}/favorites`, 'Favorited', at)}
      </div>
      ${list}
    </section>
  </div>`
}
