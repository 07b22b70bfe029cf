import { RungError } from '../../kernel/errors.ts'
import type { Riding } from '../data/rides.ts'
import {
  type Change,
  GenerationDropped,
  type IndexKey,
  type LookedUp,
  type Matches,
  type MatchQuery,
  type Prepared,
  type SearchStore,
  type Suggestion,
  type Weight,
} from './contract.ts'
import { cut, formCostMax, formOf } from './form.ts'
import { anyWordOf, clean, nearestWords, replaced, type Token, thinningAfter, thinningOf, tokensOf } from './query.ts'

/** Describes what is searched. Its name belongs to the module that uses it: another module's index of the same name is another index. */
export interface Index<Field extends string = string, Facet extends string = string> {
  readonly name: string
  readonly language: Language
  readonly fields: Readonly<Record<Field, FieldOptions>>
  readonly facets: readonly Facet[]
}

export interface FieldOptions {
  /** Rank of a word in this field: A 1, B 0.4, C 0.2, D 0.1 (default). */
  weight?: Weight
}

const languages = [
  ...['simple', 'arabic', 'armenian', 'basque', 'catalan', 'danish', 'dutch', 'english', 'finnish', 'french', 'german'],
  ...[
    'greek',
    'hindi',
    'hungarian',
    'indonesian',
    'irish',
    'italian',
    'lithuanian',
    'nepali',
    'norwegian',
    'portuguese',
  ],
  ...['romanian', 'russian', 'serbian', 'spanish', 'swedish', 'tamil', 'turkish', 'yiddish'],
] as const
/** Decides how words are stemmed and which are too common to be searched. `simple` does neither. */
export type Language = (typeof languages)[number]

/** Values of fields and facets. A missing value or null is not searched. */
export type SearchDocument<Field extends string = string, Facet extends string = string> = {
  readonly [Name in Field | Facet]?: string | readonly string[] | null
}

/** The part of a transaction's handle that changes indexes. */
export interface Indexing {
  /** Puts the document into the index when this transaction commits, and replaces the one with this id. */
  index<Field extends string, Facet extends string>(
    index: Index<Field, Facet>,
    id: string | number,
    document: SearchDocument<Field, Facet>,
  ): void
  /** Removes the document from the index when this transaction commits. */
  unindex(index: Index, id: string | number): void
}

/** Search as a module uses it outside transactions. */
export interface Search {
  /**
   * Finds committed documents that have all words of the text, the best first.
   * @throws SEARCH_INVALID for fields or facets that the index does not have
   * @example const { hits } = await search.find(articles, { text: 'postgres queue', highlight: ['title'] })
   */
  find<Field extends string, Facet extends string>(
    index: Index<Field, Facet>,
    query: SearchQuery<Field, Facet>,
  ): Promise<SearchResult<Field, Facet>>
  /**
   * Fills the index again while it is read and written, then switches to the new content at one instant. Needed after a change of its
   * definition, or if tables were written without it.
   * @param source yields all documents in batches. It must read them only after it was called, since the rebuild has begun by then
   * @returns the number of documents
   * @throws SEARCH_REBUILDING if another rebuild of this index runs
   */
  rebuild<Field extends string, Facet extends string>(
    index: Index<Field, Facet>,
    source: () => AsyncIterable<readonly { id: string | number; document: SearchDocument<Field, Facet> }[]>,
  ): Promise<number>
}

export interface SearchQuery<Field extends string = string, Facet extends string = string> {
  /** Words and "phrases"; a minus in front of one excludes documents that have it. Any text is valid. */
  text: string
  /** Only documents that have one of the values of each facet. */
  filters?: { readonly [Name in Facet]?: readonly string[] }
  /** Facets whose values are counted. */
  facets?: readonly Facet[]
  /** 1 … 100, default 20. */
  limit?: number
  /** 0 … 500, default 0. */
  offset?: number
  /** Whether the last word may be the beginning of a word, for results while a user types. Default false. */
  prefix?: boolean
  /** Fields of which `highlights` contains a piece. */
  highlight?: readonly Field[]
}

export interface SearchResult<Field extends string = string, Facet extends string = string> {
  /** `highlights` are HTML: escaped text with matches in `<mark>`. */
  hits: { id: string; score: number; highlights: { [Name in Field]?: string } }[]
  /** Number of documents that match; of those that were read, if `totalIs` is `at least`. */
  total: number
  totalIs: 'exact' | 'at least'
  /** The most common values of each facet, at most 50, with the number of matching documents. */
  facets: { [Name in Facet]?: { value: string; count: number }[] }
  /** `estimated` if they were counted in a sample and scaled up. */
  facetsAre: 'exact' | 'estimated'
  /** The text with the words that were searched in place of misspelt words, if there were any. */
  corrected: string | undefined
  /** False if the server lacks pg_trgm: then only swapped and surplus letters are corrected. */
  typoTolerance: boolean
}

const candidatesMax = 500
const limitMax = 100
/** A search starts again when a rebuild ends during it. */
const attemptsMax = 4
/** Searched words with a given beginning, the most common ones. The time of a search grows faster than their number. */
const beginningsMax = 10
const documentBytesMax = 200_000
/** Limit of a facet value: less than half of the largest key in an index of Postgres. */
const valueBytesMax = 1_000
const marksMax = 200
const batchMax = 100

/**
 * Describes an index, for `tx.index`, `tx.unindex` and `search.find`.
 * @throws APP_INVALID for invalid names or options
 * @example
 * const articles = defineIndex('articles', {
 *   language: 'english',
 *   fields: { title: { weight: 'A' }, body: {} },
 *   facets: ['tag'],
 * })
 */
export function defineIndex<const Field extends string, const Facet extends string = never>(
  name: string,
  definition: { language: Language; fields: Record<Field, FieldOptions>; facets?: readonly Facet[] },
): Index<Field, Facet> {
  const { language, fields, facets = [] } = definition
  const invalid = (what: string) => new RungError('APP_INVALID', `Index "${name}": ${what}`)
  if (!/^[a-z][a-z0-9-]{0,62}$/.test(name)) throw invalid('write its name like articles or article-comments.')
  if (!languages.includes(language))
    throw invalid(`"${language}" is not a language. Use one of ${languages.join(', ')}.`)
  if (Object.keys(fields).length === 0) throw invalid('it has no field. Add one.')
  for (const one of [...Object.keys(fields), ...facets]) {
    if (!/^[A-Za-z][A-Za-z0-9_]{0,62}$/.test(one))
      throw invalid(`"${one}" is not a valid name. Use letters, digits and _.`)
  }
  for (const { weight = 'D' } of Object.values<FieldOptions>(fields)) {
    if (!/^[ABCD]$/.test(weight)) throw invalid(`"${weight}" is not a weight. Use one of A, B, C, D.`)
  }
  return { name, language, fields, facets }
}

/** Returns `index` and `unindex` of one transaction. The last change of each document rides the commit. */
export function indexingIn(riding: Riding, store: SearchStore): Indexing {
  const changes = new Map<string, Change>()
  function add(index: Index, id: string | number, document: SearchDocument | undefined): void {
    const change = { index: keyOf(riding.module, index), id: idOf(index, id) }
    if (changes.size === 0) riding.ride(() => [store.change([...changes.values()])])
    changes.set(`${index.name} ${change.id}`, document ? { ...change, document: prepared(index, document) } : change)
  }
  return {
    index: (index, id, document) => add(index, id, document),
    unindex: (index, id) => add(index, id, undefined),
  }
}

export function searchFor(module: string | undefined, store: SearchStore): Search {
  return {
    find: (index, query) => find(store, module, index, query) as never,
    async rebuild(index, source) {
      const rebuild = await store.rebuild(keyOf(module, index))
      let count = 0
      try {
        for await (const batch of source()) {
          // In pieces, since each holds its locks until it ends.
          for (let at = 0; at < batch.length; at += batchMax) {
            const piece = new Map<string, Prepared>()
            for (const { id, document } of batch.slice(at, at + batchMax)) {
              piece.set(idOf(index, id), prepared(index, document))
              await new Promise(setImmediate) // a long text takes some milliseconds; let other requests run
            }
            await rebuild.put(Array.from(piece, ([id, document]) => ({ id, document })))
            count += piece.size
          }
        }
      } catch (error) {
        await rebuild.abandon().catch(() => {}) // the next rebuild removes it
        throw error
      }
      await rebuild.finish()
      return count
    },
  }
}

function keyOf(module: string | undefined, { name, language }: Index): IndexKey {
  return { module: module ?? '', name, language }
}

function idOf(index: Index, id: string | number): string {
  const text = String(id)
  if (text !== '' && text.length <= 200 && clean(text) === text) return text
  throw new RungError(
    'SEARCH_INVALID',
    `An id of index "${index.name}" is empty, longer than 200 characters, or has control characters. Use the row's key.`,
  )
}

/** Cuts fields to the limit of a document: a long text must not fail its transaction. */
function prepared(index: Index, document: SearchDocument): Prepared {
  let left = documentBytesMax
  const budget = { left: formCostMax }
  const fields = Object.entries(index.fields).map(([name, { weight = 'D' }]) => {
    const text = cut(clean(valuesOf(document[name]).join(' ')), left)
    left -= Buffer.byteLength(text)
    const form = formOf(text, index.language, budget)
    return form === text ? { name, weight, text } : { name, weight, text, form }
  })
  const marks = new Set(index.facets.flatMap((facet) => valuesOf(document[facet]).map((value) => markOf(facet, value))))
  if (marks.size > marksMax) {
    throw new RungError('SEARCH_INVALID', `A document of index "${index.name}" has more than ${marksMax} facet values.`)
  }
  for (const mark of marks) {
    if (Buffer.byteLength(mark.slice(mark.indexOf('=') + 1)) <= valueBytesMax) continue
    throw new RungError(
      'SEARCH_INVALID',
      `A facet value of index "${index.name}" is longer than ${valueBytesMax} bytes. Facets are for short values; make it a field.`,
    )
  }
  return { fields, marks: [...marks].sort() }
}

function valuesOf(value: string | readonly string[] | null | undefined): readonly string[] {
  return value === undefined || value === null ? [] : typeof value === 'string' ? [value] : value
}

function markOf(facet: string, value: string): string {
  return `${facet}=${clean(value)}`
}

/** A search after its names were checked and its text was taken apart. */
interface Request {
  store: SearchStore
  key: IndexKey
  text: string
  tokens: readonly Token[]
  highlight: readonly string[]
  bounds: Pick<MatchQuery, 'filters' | 'facets' | 'candidatesMax' | 'limit' | 'offset'>
}

async function find(
  store: SearchStore,
  module: string | undefined,
  index: Index,
  query: SearchQuery,
): Promise<SearchResult> {
  checkNames(index, query)
  const request: Request = {
    store,
    key: keyOf(module, index),
    highlight: query.highlight ?? [],
    bounds: boundsOf(query),
    ...tokensOf(query.text, query.prefix ?? false, index.language),
  }
  if (request.tokens.every(({ excluded }) => excluded)) return nothing(request)
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await searchOnce(request)
    } catch (error) {
      if (!(error instanceof GenerationDropped) || attempt === attemptsMax) throw error
    }
  }
}

function checkNames(index: Index, { filters = {}, facets = [], highlight = [] }: SearchQuery): void {
  const unknown =
    [...facets, ...Object.keys(filters)].find((name) => !index.facets.includes(name)) ??
    highlight.find((name) => !Object.hasOwn(index.fields, name))
  if (unknown === undefined) return
  throw new RungError(
    'SEARCH_INVALID',
    `Index "${index.name}" has no field or facet "${unknown}". Add it to defineIndex.`,
  )
}

function boundsOf({ filters = {}, facets = [], limit, offset }: SearchQuery): Request['bounds'] {
  return {
    filters: Object.entries(filters).flatMap(([facet, values]) =>
      values ? [values.slice(0, marksMax).map((value) => markOf(facet, value.slice(0, valueBytesMax + 1)))] : [],
    ),
    facets: [...new Set(facets)],
    candidatesMax,
    limit: whole(limit, 20, 1, limitMax),
    offset: whole(offset, 0, 0, candidatesMax),
  }
}

function nothing({ bounds }: Request, typoTolerance = true): SearchResult {
  return {
    hits: [],
    total: 0,
    totalIs: 'exact',
    facets: Object.fromEntries(bounds.facets.map((facet) => [facet, []])),
    facetsAre: 'exact',
    corrected: undefined,
    typoTolerance,
  }
}

async function searchOnce(request: Request): Promise<SearchResult> {
  const { store, key, tokens, highlight, bounds } = request
  const lookedUp = await store.lookUp(key, tokens)
  const { generation, typos } = lookedUp
  if (generation === undefined) return nothing(request)
  const planned = plan(request, lookedUp)
  if (!planned) return nothing(request, typos)
  const { query, ranking, marking, thinningStrong, corrections } = planned
  const base: MatchQuery = { ...bounds, generation, query, ranking, thinning: planned.thinning, thinningStrong }
  const { matches, thinning } = await sample(store, base)
  const ids = matches.hits.map(({ id }) => id)
  const corrected =
    ids.length > 0 || matches.total > 0 ? await correction(store, { ...base, thinning }, corrections) : undefined
  const pieces =
    highlight.length > 0 && ids.length > 0
      ? await store.highlight(key, { generation, query: marking, ids, fields: highlight })
      : []
  const piecesById = Map.groupBy(pieces, ({ id }) => id)
  return {
    hits: matches.hits.map((hit) => ({
      ...hit,
      highlights: Object.fromEntries((piecesById.get(hit.id) ?? []).map(({ field, html }) => [field, html])),
    })),
    total: Math.max(matches.total, ids.length),
    totalIs: matches.more ? 'at least' : 'exact',
    facets: facetCounts(bounds.facets, matches, 2 ** thinning),
    facetsAre: matches.more ? 'estimated' : 'exact',
    corrected,
    typoTolerance: typos,
  }
}

/** Reads larger and larger samples of the documents until one is large enough. */
async function sample(store: SearchStore, query: MatchQuery): Promise<{ matches: Matches; thinning: number }> {
  for (let { thinning } = query; ; ) {
    const matches = await store.find({ ...query, thinning })
    const next = thinningAfter(matches.total, thinning, candidatesMax)
    if (next === undefined) return { matches, thinning }
    thinning = next
  }
}

/** Returns the likeliest corrected text that finds something by itself: the matches may have another word than the likeliest. */
async function correction(
  store: SearchStore,
  query: MatchQuery,
  corrections: Plan['corrections'],
): Promise<string | undefined> {
  if (corrections.length <= 1) return corrections[0]?.text
  for (const { text, query: corrected } of corrections) {
    const one = { ...query, query: corrected, ranking: corrected, facets: [], limit: 1, offset: 0 }
    if ((await store.find(one)).hits.length > 0) return text
  }
  return undefined
}

/** @param scale how many documents one document of the sample stands for */
function facetCounts(facets: readonly string[], matches: Matches, scale: number): SearchResult['facets'] {
  const counts = Map.groupBy(matches.facets, ({ mark }) => mark.slice(0, mark.indexOf('=')))
  return Object.fromEntries(
    facets.map((facet) => [
      facet,
      (counts.get(facet) ?? []).map(({ mark, count }) => ({
        value: mark.slice(facet.length + 1),
        count: count * scale,
      })),
    ]),
  )
}

/** A query in the terms of the adapter. */
interface Plan {
  query: string
  marking: string
  ranking: string
  thinning: number
  thinningStrong: number
  /** Texts with other words, and queries for those words only. The likeliest is first. */
  corrections: readonly { text: string; query: string }[]
}

/** Returns `undefined` if all words are too common to be searched. */
function plan({ text, tokens }: Request, { terms, documents }: LookedUp): Plan | undefined {
  const required = new Map<
    string,
    { token: Token; ranking: string; docs: number; strong: number; corrections: Suggestion[] }
  >()
  const excluded: string[] = []
  for (const [at, token] of tokens.entries()) {
    const { query: own, ranking, docs, strong, suggestions } = terms[at]!
    if (token.excluded) {
      if (own !== '') excluded.push(`!(${own})`)
      continue
    }
    const begun = token.kind === 'prefix' && suggestions.some(({ word }) => word.startsWith(token.text))
    const others = begun ? suggestions.slice(0, beginningsMax) : nearestWords(token.text, suggestions)
    const alternatives = [own, ...others.map(({ query }) => query)].filter((query) => query !== '')
    if (alternatives.length === 0) continue
    const query = alternatives.map((one) => `(${one})`).join(' | ')
    if (required.has(query)) continue
    const docsOfOthers = others.reduce((sum, one) => sum + one.docs, 0)
    required.set(query, {
      token,
      ranking: `(${ranking ?? query})`,
      docs: docs + docsOfOthers,
      strong: strong + docsOfOthers,
      corrections: begun ? [] : others,
    })
  }
  if (required.size === 0) return undefined
  const words = [...required.values()]
  const queryOf = (queries: readonly string[]) => [...queries.map((one) => `(${one})`), ...excluded].join(' & ')
  const corrections = Array.from({ length: Math.max(...words.map((word) => word.corrections.length)) }, (_, nth) => {
    const chosen = (word: { corrections: Suggestion[] }) => word.corrections[nth] ?? word.corrections[0]
    return {
      text: replaced(
        text,
        words.flatMap((one) => (chosen(one) ? [{ token: one.token, word: chosen(one)!.word }] : [])),
      ),
      query: queryOf([...required].map(([query, one]) => chosen(one)?.query ?? query)),
    }
  })
  return {
    query: queryOf([...required.keys()]),
    marking: anyWordOf([...required.keys()]),
    ranking: words.map(({ ranking }) => ranking).join(' & '),
    thinning: thinningOf(
      words.map(({ docs }) => docs),
      documents,
      candidatesMax,
    ),
    thinningStrong: thinningOf(
      words.map(({ strong }) => strong),
      documents,
      candidatesMax / 2,
    ),
    corrections,
  }
}

function whole(given: number | undefined, standard: number, least: number, most: number): number {
  return given === undefined || Number.isNaN(given) ? standard : Math.min(most, Math.max(least, Math.floor(given)))
}
