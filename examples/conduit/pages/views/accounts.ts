import { type Html, html } from 'rung'
import { complaints, type Filled, field, type Messages, text } from '../forms.ts'

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
  return html`<section class="narrow">
    <h1>Sign in</h1>
    <p>No account yet? <a href="/register">Sign up</a></p>
    ${complaints(messages, ['email', 'password'])}
    <form method="post" action="/login">
      ${to !== undefined && html`<input type="hidden" name="to" value="${to}">`}
      ${email(text(filled, 'email'), messages)}
      ${field({ name: 'password', label: 'Password', type: 'password', autocomplete: 'current-password', required: true, maxLength: 256 }, messages)}
      <button class="primary">Sign in</button>
    </form>
  </section>`
}

export function signUp({ filled, messages }: Sent): Html {
  return html`<section class="narrow">
    <h1>Sign up</h1>
    <p>Have an account? <a href="/login">Sign in</a></p>
    ${complaints(messages, ['username', 'email', 'password'])}
    <form method="post" action="/register">
      ${field({ name: 'username', label: 'Username', autocomplete: 'username', required: true, maxLength: 64, value: text(filled, 'username') }, messages)}
      ${email(text(filled, 'email'), messages)}
      ${field({ name: 'password', label: 'Password', type: 'password', autocomplete: 'new-password', required: true, minLength: 8, maxLength: 256, hint: 'At least 8 characters.' }, messages)}
      <button class="primary">Sign up</button>
    </form>
  </section>`
}

export function settings({ filled, messages }: Sent): Html {
  return html`<section class="narrow">
    <h1>Settings</h1>
    ${complaints(messages, ['image', 'username', 'bio', 'email', 'password'])}
    <form method="post" action="/settings">
      ${field({ name: 'image', label: 'Picture', type: 'url', maxLength: 2_048, hint: 'Address of a picture on the web.', value: text(filled, 'image') }, messages)}
      ${field({ name: 'username', label: 'Username', autocomplete: 'username', required: true, maxLength: 64, value: text(filled, 'username') }, messages)}
      ${field({ name: 'bio', label: 'About you', type: 'lines', rows: 4, maxLength: 5_000, value: text(filled, 'bio') }, messages)}
      ${email(text(filled, 'email'), messages)}
      ${field({ name: 'password', label: 'New password', type: 'password', autocomplete: 'new-password', minLength: 8, maxLength: 256, hint: 'Leave it empty to keep the one you have. A new one signs out all other devices.' }, messages)}
      <button class="primary">Save</button>
    </form>
  </section>`
}
