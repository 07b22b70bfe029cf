/** HTML whose values are escaped. Apps create it with `html`. */
export class Html {
  readonly #text: string
  constructor(text: string) {
    this.#text = text
  }
  /** A cache stores the text. */
  toJSON(): string {
    return this.#text
  }
  toString(): string {
    return this.#text
  }
}

export type HtmlValue = string | number | bigint | Html | null | undefined | false | readonly HtmlValue[]

/**
 * Template tag for HTML. Values are escaped, except results of `html`; lists are joined; `null`, `undefined` and `false` become nothing. Put
 * values of attributes in quotes.
 * @example html`<a href="${url}">${title}</a>`
 */
export function html(texts: TemplateStringsArray, ...values: readonly HtmlValue[]): Html {
  const text = texts.map((part, n) => part + (n < values.length ? escaped(values[n]) : '')).join('')
  return new Html(text)
}

/** Marks text as safe HTML, such as the result of a Markdown renderer, or a highlight of a search. */
export function rawHtml(text: string): Html {
  return new Html(text)
}

const signs: Record<string, string> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' }

/** Returns a value as HTML text. */
export function escaped(value: HtmlValue): string {
  if (value === null || value === undefined || value === false) return ''
  if (value instanceof Html) return String(value)
  if (Array.isArray(value)) return value.map(escaped).join('')
  return String(value).replace(/[&<>"']/g, (sign) => signs[sign]!)
}
