import { typosBetween } from '../../kernel/typos.ts'
import type { Suggestion, Term } from './contract.ts'
import { queryFormOf } from './form.ts'

/** From typed text to terms, and back to a corrected text. Pure. */

export interface Token extends Term {
  excluded: boolean
  /** Its place in the cleaned text. */
  from: number
  to: number
}

const charsMax = 300
const termsMax = 12
const alternativesMax = 3

/** Replaces control characters and lone surrogates: Postgres refuses some of them, and some mark highlights. */
export function clean(text: string): string {
  return text.toWellFormed().replace(/[\u0000-\u001f\u007f-\u009f]/g, ' ')
}

/**
 * Returns the words and "quoted phrases" of a text, each perhaps excluded by a minus in front. A quote without a partner is ignored.
 * At most 300 characters and 12 terms are read.
 */
export function tokensOf(given: string, prefix: boolean, language: string): { text: string; tokens: Token[] } {
  const text = clean(given.slice(0, charsMax)).trim()
  const tokens: Token[] = []
  for (const match of text.matchAll(/(?<=^|\s)([-－]?)["＂]([^"＂]*)["＂]|(?:(?<=^|\s)([-－]))?([^\s"＂]+)/gu)) {
    const [, minusPhrase, phrase, minusWord, word] = match
    const inner = phrase ?? word!
    const { form: whole, exact } = queryFormOf(inner, language)
    const isWord = phrase === undefined && !exact
    // Without a space, a "word" may be long and consist of many words.
    const form = isWord ? whole.split(/\s+/, termsMax).join(' ') : whole
    if (!/[\p{L}\p{N}]/u.test(form)) continue
    const from = match.index + match[0].indexOf(inner)
    tokens.push({
      text: form,
      kind: isWord ? 'word' : 'phrase',
      excluded: Boolean(minusPhrase || minusWord),
      from,
      to: from + inner.length,
    })
    if (tokens.length === termsMax) break
  }
  const last = tokens.at(-1)
  if (prefix && last?.kind === 'word' && !last.excluded) last.kind = 'prefix'
  return { text, tokens }
}

/** Returns the suggestions with the fewest typos, the most common first. Words of 4 letters may have one typo, words of 8 two. */
export function nearestWords(word: string, suggestions: readonly Suggestion[]): Suggestion[] {
  const max = word.length < 4 ? 0 : word.length < 8 ? 1 : 2
  const near = suggestions.map((suggestion) => ({ ...suggestion, typos: typosBetween(word, suggestion.word, max) }))
  const least = Math.min(max, ...near.map(({ typos }) => typos))
  const nearest = near
    .filter(({ typos }) => typos === least)
    .sort((a, b) => b.docs - a.docs || (a.word < b.word ? -1 : 1))
  const byQuery = new Map<string, Suggestion>()
  for (const one of nearest) if (!byQuery.has(one.query)) byQuery.set(one.query, one)
  return [...byQuery.values()].slice(0, alternativesMax)
}

/** Returns a query for any single word of these queries, whatever else they ask for. */
export function anyWordOf(queries: readonly string[]): string {
  const words = queries.flatMap((query) => query.match(/'(?:[^'\\]|''|\\.)*'(?::\*)?/gs) ?? [])
  return [...new Set(words)].join(' | ')
}

/** Returns the text with other words in place of some tokens. */
export function replaced(text: string, by: readonly { token: Token; word: string }[]): string {
  let result = ''
  let at = 0
  for (const { token, word } of by) {
    result += text.slice(at, token.from) + word
    at = token.to
  }
  return result + text.slice(at)
}

/**
 * Returns n, so that of one of 2^n documents about `candidatesMax` match, and no list of the index is read further than 16 times that.
 * Assumes that words are independent of each other.
 */
export function thinningOf(docs: readonly number[], documents: number, candidatesMax: number): number {
  const all = Math.max(documents, 1)
  const matching = docs.reduce((share, one) => share * Math.min(1, one / all), all)
  const rarest = Math.min(...docs)
  return thinningFor(Math.max(matching, rarest / 16), candidatesMax)
}

function thinningFor(matching: number, candidatesMax: number): number {
  return Math.min(20, Math.max(0, Math.ceil(Math.log2(matching / candidatesMax))))
}

/** A sample with hardly any match is a bad estimate, so the next sample is at most 2^8 as large. */
const deeperMax = 8

/**
 * Returns the next, larger sample to read, or `undefined` if the last one was large enough. Words occur together more or less often than
 * by chance, so the first sample is a guess; its result says by how much it was wrong. If few match, all are read.
 */
export function thinningAfter(found: number, thinning: number, candidatesMax: number): number | undefined {
  if (thinning === 0) return undefined
  const sample = Math.max(found, 1)
  const estimate = sample * 2 ** thinning
  const few = estimate * (1 - 1 / Math.sqrt(sample)) <= 1.2 * candidatesMax // less one standard deviation
  if (!few && found >= candidatesMax / 16) return undefined
  return Math.max(thinning - deeperMax, few ? 0 : thinningFor(estimate, candidatesMax))
}
