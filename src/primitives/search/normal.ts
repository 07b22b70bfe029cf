/**
 * The form in which texts and queries meet: compatibility characters (NFKC) and letters folded, words that the script does not separate
 * as overlapping pairs, emoji as words. Pure, and linear in the length of the text.
 *
 *   Straße ﬁx      strasse fix
 *   東京2020        東 東京 京 2020
 *   👍🏽             one word of letters that no other text has
 */

/** Part of the form, and the part of the text that it stands for. */
interface Place {
  at: number
  form: string
  from: number
  to: number
  /** `single`: a character of a script that does not separate words, `pair`: two of them. */
  kind: 'text' | 'single' | 'pair' | 'emoji'
}

const unseparated =
  '[[\\p{scx=Han}\\p{scx=Hiragana}\\p{scx=Katakana}\\p{scx=Bopomofo}\\p{scx=Hangul}\\p{sc=Thai}\\p{sc=Lao}\\p{sc=Khmer}\\p{sc=Myanmar}]&&[\\p{L}\\p{Nl}]]'
/** Signs that stand with the character before them, the second letters of Korean syllables, and the vowels that Unicode takes apart in Thai and Lao. */
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
/** Characters that folding leaves as they are, by far the most. */
const itself = /[\u3041-\u3096\u30a1-\u30fa\u4e00-\u9fff\uac00-\ud7a3]/
const ascii = /^[\x00-\x7f]*$/

/**
 * A tsvector takes at most 1 MB, with a few bytes for each word beside it. Counted so, words of any script stay below that, and so do hyphenated
 * ones, which Postgres keeps whole and in parts.
 */
export const formCostMax = 800_000

/** Positions of a tsvector end at 16,383. What stands beyond is found as a word or a pair, but not as part of a phrase: once is enough. */
const unitsWithPositions = 8_000

/** The form of a document's text, as far as the budget reaches, which it takes from. */
export function formOf(text: string, language: string, budget: { left: number }): string {
  let form = ''
  let units = 0
  const seen = new Set<string>()
  for (const place of placesOf(text, language)) {
    if (budget.left <= 0) break
    if (place.kind === 'text') {
      const kept = cut(place.form, Math.floor(budget.left / 4))
      budget.left -= 4 * Buffer.byteLength(place.form)
      form += kept
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

/** As much of the text as these bytes hold. */
export function cut(text: string, bytesMax: number): string {
  if (Buffer.byteLength(text) <= bytesMax) return text
  return Buffer.from(text).subarray(0, bytesMax).toString().replace(/�+$/, '')
}

/** The form, and for each part of it where it comes from. */
export function alignedForm(text: string, language: string): { form: string; places: Place[] } {
  const places = [...placesOf(text, language)]
  return { form: separated(places.map(({ form, kind }) => (kind === 'text' ? form : ` ${form} `)).join('')), places }
}

/** Stands in a query's form for one word that need not be looked up, since the pairs beside it say as much. */
const skipped = '\u0003'

/** The form of something that is looked for. `exact`: it stands in one piece in texts, and no typo in it can be corrected. */
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
    const same = part.length === 1 && itself.test(part)
    const form = same || ascii.test(part) ? part : folded(part, language)
    if (!same && !hasUnit.test(form)) {
      last = undefined
      yield place('text', form, from, to)
      continue
    }
    // One character may stand for several: ㍿ is 株式会社.
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

/** Case folding of Unicode, by way of the capitals: ß and ẞ are ss. The sigma at the end of a word is left to Greek, and the dotless i to Turkish. */
function folded(text: string, language: string): string {
  const fold = (one: string) => one.toLowerCase().toUpperCase().toLowerCase()
  const plain = text.normalize('NFKC').replace(ignorable, '')
  const lower = language === 'turkish' ? plain.split('ı').map(fold).join('ı') : fold(plain)
  return (language === 'greek' ? lower : lower.replaceAll('ς', 'σ')).replaceAll('i\u0307', 'i').normalize('NFKC')
}

/**
 * A piece of the text as HTML, with what was found in it between U+0001 and U+0002: the one with the most different words of those that `marked`, the
 * form with such marks, has. About 250 characters long, or 80 where a character says more.
 */
export function pieceOf(text: string, { places }: { places: readonly Place[] }, marked: string): string {
  const spans = spansOf(places, marked)
  const pairs = places.filter(({ kind }) => kind === 'pair').length
  const lengthMax = pairs > text.length / 4 ? 80 : 250
  const [first, last] = densest(spans, lengthMax)
  const spare = Math.max(0, lengthMax - (last.to - first.from))
  let from = Math.max(0, Math.min(first.from - Math.floor(spare / 3), text.length - lengthMax))
  let to = Math.min(text.length, Math.max(last.to, from + lengthMax))
  // Between words, and not inside of characters that consist of several.
  if (from > 0)
    from += /^(?:[^\s\u0001]{0,30}\s|[\p{M}\p{DI}\p{EMod}\p{Cs}]+)/u.exec(text.slice(from, first.from))?.[0].length ?? 0
  if (to < text.length) to -= /\s[^\s]{0,30}$/.exec(text.slice(last.to, to))?.[0].length ?? 0
  while (to < text.length && /^[\p{M}\p{DI}\p{EMod}\udc00-\udfff]/u.test(text.slice(to, to + 2))) to += 1
  let html = ''
  let at = from
  for (const span of spans) {
    if (span.from < at || span.to > to) continue
    html += `${escaped(text.slice(at, span.from))}\u0001${escaped(text.slice(span.from, span.to))}\u0002`
    at = span.to
  }
  return html + escaped(text.slice(at, to))
}

interface Span {
  from: number
  to: number
  word: string
}

/** Where in the text the marks of its form are; those that touch are one. */
function spansOf(places: readonly Place[], marked: string): Span[] {
  const spans: Span[] = []
  let at = 0
  let next = 0
  for (const [nth, piece] of marked.split(/[\u0001\u0002]/).entries()) {
    const end = at + piece.length
    while (next < places.length && places[next]!.at + places[next]!.form.length <= at) next += 1
    for (let n = next; nth % 2 === 1 && n < places.length && places[n]!.at < end; n += 1) {
      const place = places[n]!
      const same = place.form.length === place.to - place.from
      const from = same ? place.from + Math.max(0, at - place.at) : place.from
      const to = same ? place.from + Math.min(place.form.length, end - place.at) : place.to
      const last = spans.at(-1)
      if (last && from <= last.to) Object.assign(last, { to: Math.max(to, last.to), word: last.word + piece })
      else spans.push({ from, to, word: piece.toLowerCase() })
    }
    at = end
  }
  return spans
}

/** The first and the last of those spans within a length that have the most different words. */
function densest(spans: readonly Span[], lengthMax: number): [Span, Span] {
  let best: [Span, Span] | undefined
  let most = 0
  let end = 0
  const counts = new Map<string, number>()
  for (const first of spans) {
    for (; end < spans.length && (spans[end]!.to <= first.from + lengthMax || spans[end] === first); end += 1) {
      counts.set(spans[end]!.word, (counts.get(spans[end]!.word) ?? 0) + 1)
    }
    if (counts.size > most) {
      most = counts.size
      best = [first, spans[end - 1]!]
    }
    const left = counts.get(first.word)! - 1
    if (left === 0) counts.delete(first.word)
    else counts.set(first.word, left)
  }
  return (
    best ?? [
      { from: 0, to: 0, word: '' },
      { from: 0, to: 0, word: '' },
    ]
  )
}

function escaped(text: string): string {
  const entities = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' }
  return text.replace(/[&<>"']/g, (sign) => entities[sign as keyof typeof entities])
}

/** Postgres' parser knows no emoji: two letters of Yi for each character, behind one of old Cyrillic, are a word in every locale. */
function wordOf(cluster: string): string {
  const points = Array.from(cluster.replace(/[\ufe0e\ufe0f]/g, ''), (one) => one.codePointAt(0)!)
  return `ꙮ${String.fromCharCode(...points.flatMap((point) => [0xa000 + (point >> 10), 0xa000 + (point & 1023)]))}`
}

/**
 * Text of the same length that Postgres' parser takes apart in a time that grows with its length. With its square it grows for `_a_a_a…`, which could
 * be a host or a path at each of its signs, and for comments that are never closed (measured: 10 and 2.5 KB take 1.2 and 0.3 s). No word that people
 * look for has 65 letters and signs without a space.
 */
export function separated(text: string): string {
  const blank = (one: string) => ' '.repeat(one.length)
  return text.replaceAll('<!', ' !').replace(
    /\S{65,}/gu,
    (run) =>
      run
        .replace(/[^\p{L}\p{N}\p{M}\u0003]/gu, blank)
        .replace(/\S+/gu, (word) => word.replace(/(.{254})(.)/guy, (_, most, one) => most + blank(one))), // sticky: it looks at no place twice
  )
}
