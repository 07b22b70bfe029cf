import { escaped } from '../../kernel/html.ts'
import type { Place } from './form.ts'

/** Builds the HTML of highlights. Postgres marks words in a text's form; the marks are carried over to the text as it was written. Pure. */

interface Span {
  from: number
  to: number
  word: string
}

/**
 * Returns a piece of the text as HTML, with `<mark>` around the words that are marked in the form: the piece with the most different words,
 * of about 250 characters, or 80 in scripts in which a character says more.
 * @param places the parts of the text's form
 * @param marked the form, with each match between U+0001 and U+0002
 */
export function pieceOf(text: string, places: readonly Place[], marked: string): string {
  const spans = spansOf(places, marked)
  const pairs = places.filter(({ kind }) => kind === 'pair').length
  const lengthMax = pairs > text.length / 4 ? 80 : 250
  const dense = densest(spans, lengthMax)
  const spare = Math.max(0, lengthMax - (dense.to - dense.from))
  let from = Math.max(0, Math.min(dense.from - Math.floor(spare / 3), text.length - lengthMax))
  let to = Math.min(text.length, Math.max(dense.to, from + lengthMax))
  // Cut between words, and not inside a character that consists of several code points.
  if (from > 0) {
    const partOfWord = /^(?:\S{0,30}\s|[\p{M}\p{DI}\p{EMod}\p{Cs}]+)/u.exec(text.slice(from, dense.from))
    from += partOfWord?.[0].length ?? 0
  }
  if (to < text.length) to -= /\s\S{0,30}$/.exec(text.slice(dense.to, to))?.[0].length ?? 0
  while (to < text.length && /^[\p{M}\p{DI}\p{EMod}\udc00-\udfff]/u.test(text.slice(to, to + 2))) to += 1
  let html = ''
  let at = from
  for (const span of spans) {
    if (span.from < at || span.to > to) continue
    html += `${escaped(text.slice(at, span.from))}<mark>${escaped(text.slice(span.from, span.to))}</mark>`
    at = span.to
  }
  return html + escaped(text.slice(at, to))
}

/** Returns where in the text the marks of its form are. Marks that touch become one span. */
function spansOf(places: readonly Place[], marked: string): Span[] {
  const spans: Span[] = []
  let at = 0
  let next = 0
  for (const [nth, piece] of marked.split(/[\u0001\u0002]/).entries()) {
    const end = at + piece.length
    while (next < places.length && places[next]!.at + places[next]!.form.length <= at) next += 1
    for (let n = next; nth % 2 === 1 && n < places.length && places[n]!.at < end; n += 1) {
      const place = places[n]!
      const sameLength = place.form.length === place.to - place.from
      const from = sameLength ? place.from + Math.max(0, at - place.at) : place.from
      const to = sameLength ? place.from + Math.min(place.form.length, end - place.at) : place.to
      const last = spans.at(-1)
      if (last && from <= last.to) Object.assign(last, { to: Math.max(to, last.to), word: last.word + piece })
      else spans.push({ from, to, word: piece.toLowerCase() })
    }
    at = end
  }
  return spans
}

/** Returns the range of at most this length (or of one span) with the most different words. A sliding window over the spans. */
function densest(spans: readonly Span[], lengthMax: number): { from: number; to: number } {
  let best = { from: 0, to: 0 }
  let most = 0
  let end = 0
  const counts = new Map<string, number>()
  for (const first of spans) {
    for (; end < spans.length && (spans[end]!.to <= first.from + lengthMax || spans[end] === first); end += 1) {
      counts.set(spans[end]!.word, (counts.get(spans[end]!.word) ?? 0) + 1)
    }
    if (counts.size > most) {
      most = counts.size
      best = { from: first.from, to: spans[end - 1]!.to }
    }
    const left = counts.get(first.word)! - 1
    if (left === 0) counts.delete(first.word)
    else counts.set(first.word, left)
  }
  return best
}
