/**
 * The form in which texts and queries are compared: compatibility characters and letters are folded (NFKC), text of scripts that do not
 * separate words becomes overlapping pairs, and an emoji becomes a word. Pure, and linear in the length of the text.
 *
 *   Straße ﬁx      strasse fix
 *   東京2020        東 東京 京 2020
 *   👍🏽             one word of letters that no other text has
 */

/** A part of the form, and where it comes from in the text. */
export interface Place {
  at: number
  form: string
  from: number
  to: number
  /** `single`: a character of a script that does not separate words, `pair`: two of them. */
  kind: 'text' | 'single' | 'pair' | 'emoji'
}

const unseparated =
  '[[\\p{scx=Han}\\p{scx=Hiragana}\\p{scx=Katakana}\\p{scx=Bopomofo}\\p{scx=Hangul}\\p{sc=Thai}\\p{sc=Lao}\\p{sc=Khmer}\\p{sc=Myanmar}]&&[\\p{L}\\p{Nl}]]'
/** Signs that belong to the character before them, later letters of Korean syllables, and vowels that NFKC decomposes in Thai and Lao. */
const joined = '[[\\p{M}\\p{DI}\\uff9e\\uff9f\\u0e32\\u0e33\\u0eb2\\u0eb3\\u1160-\\u11ff]--[\\u200b]]'
const unit = `${unseparated}${joined}*`
const pictograph =
  '(?:\\p{RI}{1,2}|[0-9#*]\\ufe0f?\\u20e3|(?![©®™ℹ‼⁉Ⓜ㊗㊙])[\\p{Extended_Pictographic}\\p{EMod}](?:\\p{EMod}|[\\ufe0e\\ufe0f]|[\\u{e0020}-\\u{e007e}]{1,8}\\u{e007f})?)'
const emoji = `${pictograph}(?:\\u200d${pictograph}){0,9}`
const letters = `[[\\p{L}\\p{M}\\p{N}\\p{DI}]--[\\u200b\\x00-\\x7f]--${unseparated}]`
const parts = new RegExp(`[\\x00-\\x7f]+(?![\\p{M}\\p{DI}])|(${emoji})|${unit}|[\\x00-\\x7f]?${letters}+|[^]`, 'gv')
const unitsOfForm = new RegExp(`(${unit})|[^]`, 'gv')
const hasUnit = new RegExp(unseparated, 'v')
const ignorable = /[\p{DI}--[\u200b]]/gv
/** Characters that folding does not change. */
const unfolded = /[\u3041-\u3096\u30a1-\u30fa\u4e00-\u9fff\uac00-\ud7a3]/
const ascii = /^[\x00-\x7f]*$/

/**
 * Limit of a document's form. A tsvector holds at most 1 MB, including a few bytes for each word. With the costs below, words of any
 * script stay under it, and so do hyphenated words, which Postgres keeps both whole and in parts.
 */
export const formCostMax = 800_000

/** A tsvector has 16,383 positions. Beyond them no phrase can be found, so each character and pair is put in only once more. */
const unitsWithPositions = 8_000

/** Returns the form of a document's text, as far as the budget reaches, and deducts its cost. */
export function formOf(text: string, language: string, budget: { left: number }): string {
  let form = ''
  let units = 0
  const seen = new Set<string>()
  for (const place of placesOf(text, language)) {
    if (budget.left <= 0) break
    if (place.kind === 'text') {
      form += cut(place.form, Math.floor(budget.left / 4))
      budget.left -= 4 * Buffer.byteLength(place.form)
      continue
    }
    units += 1
    if (units > unitsWithPositions) {
      if (seen.has(place.form)) continue
      seen.add(place.form)
    }
    budget.left -= Buffer.byteLength(place.form) + 6
    form += ` ${place.form} `
  }
  return separated(form)
}

/** Returns the beginning of the text that fits into these bytes of UTF-8. */
export function cut(text: string, bytesMax: number): string {
  if (Buffer.byteLength(text) <= bytesMax) return text
  return Buffer.from(text).subarray(0, bytesMax).toString().replace(/�+$/, '')
}

/** Returns the form with the origin of each part. */
export function alignedForm(text: string, language: string): { form: string; places: Place[] } {
  const places = [...placesOf(text, language)]
  return { form: separated(places.map(({ form, kind }) => (kind === 'text' ? form : ` ${form} `)).join('')), places }
}

/** Stands in a query's form for one arbitrary word: a single character that the pairs beside it already contain. */
const skipped = '\u0003'

/** Returns the form of a searched word or phrase. `exact`: its parts must be adjacent in a text, and typos in it are not corrected. */
export function queryFormOf(text: string, language: string): { form: string; exact: boolean } {
  const places = [...placesOf(text, language)]
  const form = places.map(({ form, kind }, at) => {
    if (kind === 'text') return form
    const paired = places[at - 1]?.kind === 'pair' || places[at + 1]?.kind === 'pair'
    return kind === 'single' && paired ? skipped : ` ${form} `
  })
  const exact = places.some(({ kind }) => kind !== 'text')
  const joined = separated(form.join('').toLowerCase()).replace(/^[\s\u0003]+|[\s\u0003]+$/g, '')
  return { form: joined, exact }
}

function* placesOf(text: string, language: string): Generator<Place> {
  let at = 0
  const place = (kind: Place['kind'], form: string, from: number, to: number): Place => {
    const start = kind === 'text' ? at : at + 1
    at += form.length + (kind === 'text' ? 0 : 2)
    return { at: start, form, from, to, kind }
  }
  if (ascii.test(text)) {
    if (text !== '') yield place('text', text, 0, text.length)
    return
  }
  let last: { form: string; from: number; to: number } | undefined
  for (const { 0: part, 1: cluster, index: from } of text.matchAll(parts)) {
    const to = from + part.length
    if (cluster !== undefined) {
      last = undefined
      yield place('emoji', wordOf(part), from, to)
      continue
    }
    const same = part.length === 1 && unfolded.test(part)
    const form = same || ascii.test(part) ? part : folded(part, language)
    if (!same && !hasUnit.test(form)) {
      last = undefined
      yield place('text', form, from, to)
      continue
    }
    // One character may fold into several: ㍿ is 株式会社.
    for (const [inner, character] of same ? [[part, part]] : form.matchAll(unitsOfForm)) {
      if (character === undefined) {
        last = undefined
        yield place('text', inner, from, to)
        continue
      }
      if (last) yield place('pair', last.form + inner, last.from, to)
      yield place('single', inner, from, to)
      last = { form: inner, from, to }
    }
  }
}

/** Folds case as Unicode does, through capitals: ß and ẞ become ss. Only Greek keeps its final sigma, and only Turkish its dotless i. */
function folded(text: string, language: string): string {
  const fold = (one: string) => one.toLowerCase().toUpperCase().toLowerCase()
  const plain = text.normalize('NFKC').replace(ignorable, '')
  const lower = language === 'turkish' ? plain.split('ı').map(fold).join('ı') : fold(plain)
  return (language === 'greek' ? lower : lower.replaceAll('ς', 'σ')).replaceAll('i\u0307', 'i').normalize('NFKC')
}

/** Spells an emoji in letters, because Postgres' parser ignores emoji. In every locale one old Cyrillic letter and two Yi letters for each character are a word. */
function wordOf(cluster: string): string {
  const points = Array.from(cluster.replace(/[\ufe0e\ufe0f]/g, ''), (one) => one.codePointAt(0)!)
  return `ꙮ${String.fromCharCode(...points.flatMap((point) => [0xa000 + (point >> 10), 0xa000 + (point & 1023)]))}`
}

/**
 * Returns text of the same length that Postgres parses in linear time. It takes quadratic time for `_a_a_a…`, which could be a host or a path
 * at each sign, and for comments without an end (measured: 10 KB and 2.5 KB take 1.2 s and 0.3 s). Nobody searches for a word with more than
 * 64 letters and signs.
 */
function separated(text: string): string {
  const blank = (one: string) => ' '.repeat(one.length)
  return text.replaceAll('<!', ' !').replace(
    /\S{65,}/gu,
    (run) =>
      run
        .replace(/[^\p{L}\p{N}\p{M}\u0003]/gu, blank)
        .replace(/\S+/gu, (word) => word.replace(/(.{254})(.)/guy, (_, most, one) => most + blank(one))), // sticky, to test no place twice
  )
}
