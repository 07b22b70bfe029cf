import type { Suggestion, Term } from './answers.ts'
import { queryFormOf } from './normal.ts'

/** From what somebody typed to terms, and back to a corrected text. Pure. */

export interface Token extends Term {
  excluded: boolean
  /** Where it stands in the cleaned text. */
  from: number
  to: number
}

const charsMax = 300
const termsMax = 12

/** Replaces control characters and lone surrogates, which Postgres refuses or which mark highlights. */
export function clean(text: string): string {
  return text.toWellFormed().replace(/[\u0000-\u001f\u007f-\u009f]/g, ' ')
}

/**
 * Words, "quoted phrases", and either with a minus in front. A quote without its other half is no quote.
 * Bounded: 300 characters, 12 terms.
 */
export function tokensOf(given: string, prefix: boolean, language: string): { text: string; tokens: Token[] } {
  const text = clean(given.slice(0, charsMax)).trim()
  const tokens: Token[] = []
  for (const match of text.matchAll(/(?<=^|\s)([-－]?)["＂]([^"＂]*)["＂]|(?:(?<=^|\s)([-－]))?([^\s"＂]+)/gu)) {
    const [, minusPhrase, phrase, minusWord, word] = match
    const inner = phrase ?? word!
    const { form: whole, exact } = queryFormOf(inner, language)
    // What has no spaces may be long, and of many words.
    const form = phrase === undefined && !exact ? whole.split(/\s+/, termsMax).join(' ') : whole
    if (!/[\p{L}\p{N}]/u.test(form)) continue
    const at = match.index + match[0].indexOf(inner)
    tokens.push({
      text: form,
      kind: phrase === undefined && !exact ? 'word' : 'phrase',
      excluded: (minusPhrase ?? minusWord ?? '') !== '',
      from: at,
      to: at + inner.length,
    })
    if (tokens.length === termsMax) break
  }
  const last = tokens.at(-1)
  if (prefix && last?.kind === 'word' && !last.excluded) last.kind = 'prefix'
  return { text, tokens }
}

/** How many typos a word of this length may have. */
function typosMax(length: number): number {
  return length < 4 ? 0 : length < 8 ? 1 : 2
}

const alternativesMax = 3

/** The words that were probably meant: of the fewest typos, common ones first. */
export function meant(word: string, suggestions: readonly Suggestion[]): Suggestion[] {
  const max = typosMax(word.length)
  const near = suggestions
    .map((suggestion) => ({ suggestion, typos: typosBetween(word, suggestion.word, max) }))
    .filter(({ typos }) => typos <= max)
  const least = Math.min(...near.map(({ typos }) => typos))
  const seen = new Set<string>()
  return near
    .filter(({ typos }) => typos === least)
    .map(({ suggestion }) => suggestion)
    .sort((a, b) => b.docs - a.docs || (a.word < b.word ? -1 : 1))
    .filter(({ query }) => !seen.has(query) && seen.add(query))
    .slice(0, alternativesMax)
}

/** Letters dropped, inserted, replaced, or swapped with their neighbour (optimal string alignment); more than `max` is ∞. */
export function typosBetween(a: string, b: string, max: number): number {
  const [from, to] = [[...a], [...b]]
  if (Math.abs(from.length - to.length) > max) return Number.POSITIVE_INFINITY
  let before: number[] = []
  let last = to.map((_, at) => at)
  last.push(to.length)
  for (let i = 1; i <= from.length; i += 1) {
    const row = [i]
    for (let j = 1; j <= to.length; j += 1) {
      const replaced = last[j - 1]! + (from[i - 1] === to[j - 1] ? 0 : 1)
      let cost = Math.min(replaced, last[j]! + 1, row[j - 1]! + 1)
      if (i > 1 && j > 1 && from[i - 1] === to[j - 2] && from[i - 2] === to[j - 1])
        cost = Math.min(cost, before[j - 2]! + 1)
      row.push(cost)
    }
    before = last
    last = row
  }
  const typos = last.at(-1)!
  return typos <= max ? typos : Number.POSITIVE_INFINITY
}

/** What has one of the words of these queries, whatever they ask beside that. */
export function anyWordOf(queries: readonly string[]): string {
  const words = queries.flatMap((query) => query.match(/'(?:[^'\\]|''|\\.)*'(?::\*)?/gs) ?? [])
  return [...new Set(words)].join(' | ')
}

/** The text with other words in some places. */
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
 * Looks at one of 2^n documents, so that about `candidatesMax` of those looked at match, and no list of the index is read
 * further than 16 times that. Takes the words for independent of each other.
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

/**
 * What to look at after this; nothing when it was enough. Words come together more or less often than by chance, so the
 * first look is a guess, and the second knows by how much it was wrong: few are all looked at, of many a sample will do.
 */
export function thinningAfter(found: number, thinning: number, candidatesMax: number): number | undefined {
  if (thinning === 0) return undefined
  const sample = Math.max(found, 1)
  const estimate = sample * 2 ** thinning
  const few = estimate * (1 - 1 / Math.sqrt(sample)) <= 1.2 * candidatesMax // a standard deviation off
  if (!few && found >= candidatesMax / 16) return undefined
  return Math.max(thinning - deeperMax, few ? 0 : thinningFor(estimate, candidatesMax))
}

/** Next to nothing in a sample is a bad estimate: the next one is at most 2^8 as large. */
const deeperMax = 8
