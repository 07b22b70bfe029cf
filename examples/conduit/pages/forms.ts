import { type Html, html } from 'rung'
import type { ConduitErrors } from '../errors.ts'

/** What is wrong with a form that was sent, by field; fields that the form does not have are about all of it. */
export type Messages = ConduitErrors['errors']
/** As it was sent. */
export type Filled = Readonly<Record<string, unknown>>

export interface Field {
  name: string
  label: string
  type?: 'text' | 'email' | 'password' | 'url' | 'lines' | 'file'
  value?: string | null | undefined
  autocomplete?: string
  required?: boolean
  maxLength?: number
  minLength?: number
  hint?: string
  placeholder?: string
  rows?: number
  /** Of a file: which kinds, and how large. */
  accept?: string
  bytesMax?: number
}

/** One field with its label and its hint. Screen readers tell with it what is wrong, from the list of `complaints`. */
export function field(field: Field, messages: Messages = {}): Html {
  const {
    name,
    label,
    type = 'text',
    value,
    autocomplete,
    required,
    maxLength,
    minLength,
    hint,
    placeholder,
    rows,
    accept,
    bytesMax,
  } = field
  const wrong = messages[name]
  const about = [hint && `${name}-hint`, wrong && `${name}-error`].filter(Boolean).join(' ')
  const attributes = html`id="${name}" name="${name}"${required && html` required`}${
    maxLength && html` maxlength="${maxLength}"`
  }${placeholder && html` placeholder="${placeholder}"`}${minLength && html` minlength="${minLength}"`}${autocomplete && html` autocomplete="${autocomplete}"`}${accept && html` accept="${accept}"`}${
    bytesMax && html` data-bytes-max="${bytesMax}"`
  }${wrong && html` aria-invalid="true"`}${about && html` aria-describedby="${about}"`}`
  return html`<p class="field">
    <label for="${name}">${label}</label>
    ${
      type === 'lines'
        ? html`<textarea ${attributes} rows="${rows ?? 8}">${value && html`\n${value}`}</textarea>`
        : html`<input type="${type}" ${attributes}${value != null && html` value="${value}"`}>`
    }
    ${hint && html`<small id="${name}-hint">${hint}</small>`}
  </p>`
}

/** Everything that is wrong with a form, above it. `labels`: of its fields, by name. */
export function complaints(messages: Messages | undefined, labels: Readonly<Record<string, string>>): Html | undefined {
  const all = Object.entries(messages ?? {})
  if (all.length === 0) return undefined
  return html`<div role="alert"><ul class="error-messages">${all.map(([name, wrong]) =>
    labels[name] === undefined
      ? wrong.map((message) => html`<li>${sentence(name, message)}</li>`)
      : html`<li id="${name}-error">${labels[name]} ${wrong.join(', ')}</li>`,
  )}</ul></div>`
}

/** Subjects that say nothing to people are left out. */
function sentence(name: string, message: string): string {
  if (name === 'credentials') return 'Email or password is wrong. Check both and try again.'
  return ['request', 'resource', 'body'].includes(name) ? message : `${name} ${message}`
}

/** A form of one button. With JavaScript what has the id `part` is exchanged, and the page stays. */
export function button(action: string, label: Html | string, options: ButtonOptions): Html {
  const { fields = {}, part, look, name } = options
  return html`<form method="post" action="${action}"${part && html` data-part="${part}"`}>${hiddenFields(fields)}<button type="submit" class="btn ${look}"${name && html` aria-label="${name}"`}>${label}</button></form>`
}

/** What only those can do who are signed in. `to`: the page to which the sign-in leads back. */
export function signInButton(to: string, label: Html | string, look: string): Html {
  return html`<form action="/login">${hiddenFields({ to })}<button type="submit" class="btn ${look}">${label}</button></form>`
}

function hiddenFields(fields: Readonly<Record<string, string>>): Html[] {
  return Object.entries(fields).map(([name, value]) => html`<input type="hidden" name="${name}" value="${value}">`)
}

export interface ButtonOptions {
  fields?: Record<string, string>
  part?: string
  /** Classes, which say how it looks. */
  look: string
  /** For screen readers, where the label is a picture. */
  name?: string
}

export const text = (filled: Filled | undefined, name: string): string | undefined => {
  const value = filled?.[name]
  return typeof value === 'string' ? value : undefined
}
