import { type Html, html } from 'rung'
import { bytesMax } from '../../avatars/places.ts'
import { button, complaints, type Filled, field, type Messages, text } from '../forms.ts'
import { picture } from '../layout.ts'

export interface Sent {
  filled?: Filled | undefined
  messages?: Messages | undefined
}

const email = (value: string | undefined, messages?: Messages) =>
  field(
    { name: 'email', label: 'Email', type: 'email', autocomplete: 'email', required: true, maxLength: 254, value },
    messages,
  )

export function signIn({ filled, messages }: Sent): Html {
  const to = text(filled, 'to')
  return html`<section class="narrow container">
    <h1>Sign in</h1>
    <p><a href="/register">Need an account?</a></p>
    ${complaints(messages, { email: 'Email', password: 'Password' })}
    <form method="post" action="/login">
      ${to !== undefined && html`<input type="hidden" name="to" value="${to}">`}
      ${email(text(filled, 'email'), messages)}
      ${field({ name: 'password', label: 'Password', type: 'password', autocomplete: 'current-password', required: true, maxLength: 256 }, messages)}
      <button type="submit" class="btn btn-primary">Sign in</button>
    </form>
  </section>`
}

export function signUp({ filled, messages }: Sent): Html {
  return html`<section class="narrow container">
    <h1>Sign up</h1>
    <p><a href="/login#main">Have an account?</a></p>
    ${complaints(messages, { username: 'Username', email: 'Email', password: 'Password' })}
    <form method="post" action="/register">
      ${field({ name: 'username', label: 'Username', autocomplete: 'username', required: true, maxLength: 64, value: text(filled, 'username') }, messages)}
      ${email(text(filled, 'email'), messages)}
      ${field({ name: 'password', label: 'Password', type: 'password', autocomplete: 'new-password', required: true, minLength: 8, maxLength: 256, hint: 'At least 8 characters.' }, messages)}
      <button type="submit" class="btn btn-primary">Sign up</button>
    </form>
  </section>`
}

/** What there is of the viewer's picture. */
export interface Picture {
  state: 'none' | 'processing' | 'ready' | 'failed'
  /** Of the last one that was sent. */
  error: string | null
  username: string
  image: string | null
  /** Why the one that was just sent was not taken. */
  refused?: string | undefined
}

const refusals: Readonly<Record<string, string>> = {
  large: 'is larger than 5 MB',
  other: 'is no PNG, JPEG or WebP',
  failed: 'could not be taken; try again',
}

export function settings({ filled, messages }: Sent, picture: Picture): Html {
  return html`<section class="narrow container">
    <h1>Your Settings</h1>
    ${complaints(messages, settingsLabels)}
    <form method="post" action="/settings">
      ${field({ name: 'username', label: 'Username', autocomplete: 'username', required: true, maxLength: 64, value: text(filled, 'username') }, messages)}
      ${field({ name: 'bio', label: 'About you', type: 'lines', rows: 4, maxLength: 5_000, value: text(filled, 'bio') }, messages)}
      ${field({ name: 'image', label: 'Picture from the web', type: 'url', maxLength: 2_048, hint: 'Its address, instead of a picture that you send.', value: text(filled, 'image') }, messages)}
      ${email(text(filled, 'email'), messages)}
      ${field({ name: 'password', label: 'New password', type: 'password', autocomplete: 'new-password', minLength: 8, maxLength: 256, hint: 'Leave it empty to keep the one you have. A new one signs out all other devices.' }, messages)}
      ${field({ name: 'currentPassword', label: 'Current password', type: 'password', autocomplete: 'current-password', maxLength: 256, hint: 'Only needed for a new password, unless you have just signed in.' }, messages)}
      <button type="submit" class="btn btn-primary">Update Settings</button>
    </form>
    ${pictureForm(picture)}
    ${button('/logout', 'Or click here to logout', { look: 'btn-outline-danger' })}
  </section>`
}

const settingsLabels = {
  image: 'Picture from the web',
  username: 'Username',
  bio: 'About you',
  email: 'Email',
  password: 'New password',
  currentPassword: 'Current password',
}

/** A form of its own: a file goes another way than words. `data-again`: with JavaScript the page looks again by itself. */
function pictureForm({ state, error, username, image, refused }: Picture): Html {
  const wrong = Object.hasOwn(refusals, refused ?? '') ? refusals[refused!] : state === 'failed' && error
  const messages = wrong ? { picture: [wrong.replace(/^the picture /, '')] } : {}
  return html`<section class="own-picture" id="own-picture" aria-label="Your picture"${state === 'processing' && html` data-again`}>
    ${picture({ username, image }, 96, 'user-img')}
    <div>
      ${complaints(messages, { picture: 'Picture' })}
      ${state === 'processing' && html`<p role="status">Your new picture is being made. <a href="/settings#own-picture">Look again</a></p>`}
      <form method="post" action="/settings/picture" enctype="multipart/form-data">
        ${field({ name: 'picture', label: 'Picture', type: 'file', required: true, accept: 'image/png,image/jpeg,image/webp', bytesMax, hint: 'PNG, JPEG or WebP, 5 MB at most.' }, messages)}
        <button type="submit" class="btn btn-outline-primary">Send picture</button>
      </form>
      ${(state === 'ready' || state === 'failed') && button('/settings/picture/remove', 'Remove picture', { look: 'btn-outline-danger' })}
    </div>
  </section>`
}
