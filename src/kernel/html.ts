/** HTML whose values were escaped. Apps know the type only: they make one with `html`. */
export class Html {
  readonly #text: string
  constructor(text: string) {
    this.#text = text
  }
  /** In a cache it is its text. */
  toJSON(): string {
    return this.#text
  }
  toString(): string {
    return this.#text
  }
}

export type HtmlValue = string | number | bigint | Html | null | undefined | false | readonly HtmlValue[]

/**
 * A tag for templates: values are escaped, pieces of `html` are not, lists are joined, `null`, `undefined` and `false` are
 * nothing. An attribute's value stands in quotes.
 */
export function html(texts: TemplateStringsArray, ...values: readonly HtmlValue[]): Html {
  const text = texts.map((part, n) => part + (n < values.length ? escaped(values[n]) : '')).join('')
  return new Html(text)
}

/** HTML that is safe already, made by somebody who has escaped what is in it: a renderer of Markdown, the search with its `<mark>`. */
export function rawHtml(text: string): Html {
  return new Html(text)
}

const signs: Record<string, string> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' }

export function escaped(value: HtmlValue): string {
  if (value === null || value === undefined || value === false) return ''
  if (value instanceof Html) return String(value)
  if (Array.isArray(value)) return value.map(escaped).join('')
  return String(value).replace(/[&<>"']/g, (sign) => signs[sign]!)
}
