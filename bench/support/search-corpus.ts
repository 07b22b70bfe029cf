import { type Random, seededRandom } from '../../src/kernel/random.ts'
import type { SearchDocument } from '../../src/primitives/search/search.ts'

/** Texts that look like English to an index: Zipf's law over made-up words with the usual endings, titles shorter than bodies. */

const onsets = 'b c d f g h j l m n p r s t v w br ch cl cr dr fl fr gr pl pr sh sl sp st str th tr wh'.split(' ')
const nuclei = 'a e i o u a e i o ai ea ee io oo ou'.split(' ')
const codas = ['', '', '', ...'n r s t l m d ck nd ng nt rt st x'.split(' ')]
const endings = ['', '', '', '', 's', 'ed', 'ing', 'er', 'ly', 'ment', 'ness', 'tion', 'able']

const pick = <T>(random: Random, from: readonly T[]): T => from[Math.floor(random() * from.length)]!

export function vocabularyOf(size: number): string[] {
  const random = seededRandom(7)
  const words = new Set<string>()
  while (words.size < size) {
    // Common words are short.
    const syllables = 1 + Math.floor(random() * (words.size < 300 ? 2 : 3))
    let word = ''
    for (let n = 0; n < syllables; n += 1) word += pick(random, onsets) + pick(random, nuclei) + pick(random, codas)
    if (words.size >= 300) word += pick(random, endings)
    if (word.length >= 3) words.add(word)
  }
  return [...words]
}

/** Rank by Zipf's law with exponent 1, by inversion of its continuous form. */
export function zipfWord(random: Random, vocabulary: readonly string[]): string {
  return vocabulary[Math.min(vocabulary.length - 1, Math.floor((vocabulary.length + 1) ** random()) - 1)]!
}

function text(random: Random, vocabulary: readonly string[], least: number, most: number): string {
  const count = least + Math.floor(random() * (most - least + 1))
  return Array.from({ length: count }, () => zipfWord(random, vocabulary)).join(' ')
}

export function documentOf(n: number, vocabulary: readonly string[]): SearchDocument & { body: string } {
  const random = seededRandom(1_000_003 + n)
  for (let skip = 0; skip < 3; skip += 1) random()
  return {
    title: text(random, vocabulary, 4, 9),
    description: text(random, vocabulary, 10, 20),
    body: text(random, vocabulary, 60, 180),
    tag: Array.from({ length: Math.floor(random() * 5) }, () => `tag-${Math.floor(500 ** random())}`),
    author: `author-${Math.floor(2000 ** random())}`,
  }
}

/** A letter dropped, put in, replaced, or swapped with the next. */
export function misspelt(random: Random, word: string): string {
  const at = Math.floor(random() * (word.length - 1))
  const letter = pick(random, [...'abcdefghijklmnopqrstuvwxyz'])
  const made = [
    word.slice(0, at) + word[at + 1] + word[at] + word.slice(at + 2),
    word.slice(0, at) + word.slice(at + 1),
    word.slice(0, at) + letter + word.slice(at + 1),
    word.slice(0, at) + letter + word.slice(at),
  ][Math.floor(random() * 4)]!
  return made === word ? misspelt(random, word) : made
}
