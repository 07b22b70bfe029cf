import { seededRandom } from '../kernel/random.ts'

/** Random values that are the same at each run. */
export interface Fake {
  /** A whole number from `least` to `most`. */
  int(least: number, most: number): number
  pick<T>(list: readonly T[]): T
  word(): string
  /** Words with blanks between them. */
  words(count: number): string
}

/** Makes values of one kind. */
export interface Factory<T> {
  /** The next one; what `own` names is taken from there. */
  (own?: Partial<T>): T
  many(count: number, own?: Partial<T>): T[]
}

const syllables = 'ba ko mi ne ru sa ti vo la de fu gi ho ja pe zu'.split(' ')

/**
 * Makes a factory whose values follow from its seed alone.
 * @param make gets random values, and which one it is, from 1: put that into what must be unique
 * @example
 * const article = factory(1, (fake, n) => ({ slug: `article-${n}`, title: fake.words(3), likes: fake.int(0, 100) }))
 * const drafts = article.many(3, { likes: 0 })
 */
export function factory<T extends object>(seed: number, make: (fake: Fake, n: number) => T): Factory<T> {
  const random = seededRandom(seed)
  const int = (least: number, most: number) => least + Math.floor(random() * (most - least + 1))
  const pick = <V>(list: readonly V[]) => list[int(0, list.length - 1)]!
  const word = () => Array.from({ length: int(2, 4) }, () => pick(syllables)).join('')
  const fake: Fake = { int, pick, word, words: (count) => Array.from({ length: count }, word).join(' ') }
  let n = 0
  function one(own: Partial<T> = {}): T {
    n += 1
    return { ...make(fake, n), ...own }
  }
  return Object.assign(one, {
    many: (count: number, own?: Partial<T>) => Array.from({ length: count }, () => one(own)),
  })
}
