import { plainText } from '../kernel/plain-text.ts'
import type { Interval } from './interval.ts'

const whole = new Intl.NumberFormat('en', { maximumFractionDigits: 0 })
const precise = new Intl.NumberFormat('en', { maximumSignificantDigits: 3 })

/** `16,667`, `42.5`, `0.31` */
export function amount(value: number): string {
  if (value === Number.POSITIVE_INFINITY) return '∞'
  return Math.abs(value) >= 100 ? whole.format(value) : precise.format(value)
}

/** `1 user`, `42 users` */
export const countOf = (value: number, noun: string): string => `${amount(value)} ${noun}${value === 1 ? '' : 's'}`

/** `7,300`: two digits of what is not known better. */
export const roughly = (value: number): string =>
  new Intl.NumberFormat('en', { maximumSignificantDigits: 2 }).format(value)

/** `40 %`, `0.4 %` */
export function percent(share: number): string {
  const value = 100 * share
  return `${Math.abs(value) >= 10 ? whole.format(value) : new Intl.NumberFormat('en', { maximumFractionDigits: 1 }).format(value)} %`
}

/** `297 (260 to 320)`, or only `297` where it is known exactly. */
export function span({ low, likely, high }: Interval, words: (value: number) => string = amount): string {
  const [from, to, text] = [words(low), words(high), words(likely)]
  return from === to ? text : `${text} (${from.replace(/ %$/, '')} to ${to})`
}

/** A text that people or clients wrote, where Markdown is read: it stays what it is. */
export function inMarkdown(text: string): string {
  return plainText(text.replaceAll(/\s+/g, ' ')).replaceAll(/[\\`*_{}[\]<>()#!|~&]/g, '\\$&')
}

/** `$1,240`, `$42`, `$0.31` */
export function dollars(value: number): string {
  const sign = value < 0 ? '-' : ''
  const size = Math.abs(value)
  return `${sign}$${size >= 10 ? whole.format(size) : new Intl.NumberFormat('en', { maximumFractionDigits: 2 }).format(size)}`
}
