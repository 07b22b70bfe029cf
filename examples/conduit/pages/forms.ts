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
  rows?: number
  /** Of a file: which kinds, and how large. */
  accept?: string
  bytesMax?: number
}

/** One field with its label, its hint and what is wrong with it, which screen readers tell together. */
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
    rows,
    accept,
    bytesMax,
  } = field
  const wrong = messages[name]
  const about = [hint && `${name}-hint`, wrong && `${name}-error`].filter(Boolean).join(' ')
  const attributes = html`id="${name}" name="${name}"${required && html` required`}${
    maxLength && html` maxlength="${maxLength}"`
  }${minLength && html` minlength="${minLength}"`}${autocomplete && html` autocomplete="${autocomplete}"`}${accept && html` accept="${accept}"`}${
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
    ${wrong && html`<strong class="error" id="${name}-error">${label} ${wrong.join(', ')}</strong>`}
  </p>`
}

/** What is wrong and belongs to no field. */
export function complaints(messages: Messages | undefined, fields: readonly string[]): Html | undefined {
  const others = Object.entries(messages ?? {}).filter(([name]) => !fields.includes(name))
  if (others.length === 0) return undefined
  return html`<div class="errors" role="alert"><ul>${others.flatMap(([name, all]) =>
    all.map((message) => html`<li>${sentence(name, message)}</li>`),
  )}</ul></div>`
}

/** Subjects that say nothing to people are left out. */
function sentence(name: string, message: string): string {
  if (name === 'credentials') return 'Email or password is wrong. Check both and try again.'
  return ['request', 'resource', 'body'].includes(name) ? message : `${name} ${message}`
}

/** A form of one button. With JavaScript what has the id `part` is exchanged, and the page stays. */
export function button(action: string, label: Html | string, options: ButtonOptions = {}): Html {
  const { fields = {}, part, look, confirm } = options
  return html`<form method="post" action="${action}"${part && html` data-part="${part}"`}${
    confirm && html` data-confirm="${confirm}"`
  }>${Object.entries(fields).map(
    ([name, value]) => html`<input type="hidden" name="${name}" value="${value}">`,
  )}<button${look && html` class="${look}"`}>${label}</button></form>`
}

export interface ButtonOptions {
  fields?: Record<string, string>
  part?: string
  look?: string
  /** Asked before it is done. */
  confirm?: string
}

export const text = (filled: Filled | undefined, name: string): string | undefined => {
  const value = filled?.[name]
  return typeof value === 'string' ? value : undefined
}
