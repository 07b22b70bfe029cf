import { RungError } from '../../kernel/errors.ts'
import type { Riding } from '../data/rides.ts'
import type { Highlight, LookedUp, Matches, MatchQuery, Suggestion } from './answers.ts'
import type { Change, IndexKey, Prepared, SearchStore, Weight } from './contract.ts'
import { cut, formCostMax, formOf } from './normal.ts'
import { anyWordOf, clean, meant, replaced, type Token, thinningAfter, thinningOf, tokensOf } from './query.ts'

/** Describes what is searched. Its name belongs to the module that uses it. */
export interface Index<Field extends string = string, Facet extends string = string> {
  readonly name: string
  readonly language: Language
  readonly fields: Readonly<Record<Field, FieldOptions>>
  readonly facets: readonly Facet[]
}

export interface FieldOptions {
  /** How much a word of the field counts: A 1, B 0.4, C 0.2, D 0.1 (default). */
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
/** Decides how words are stemmed and which are too common to count. `simple` does neither. */
export type Language = (typeof languages)[number]

/** Values of fields and facets. An absent value or null is not searched. */
export type SearchDocument<Field extends string = string, Facet extends string = string> = {
  readonly [Name in Field | Facet]?: string | readonly string[] | null
}

/** Part of a transaction's handle. */
export interface Indexing {
  /** Puts the document into the index when this transaction commits, in place of the one with this id. */
  index<Field extends string, Facet extends string>(
    index: Index<Field, Facet>,
    id: string | number,
    document: SearchDocument<Field, Facet>,
  ): void
  /** Removes the document from the index when this transaction commits. */
  unindex(index: Index, id: string | number): void
}

/** Search as a module sees it outside transactions. */
export interface Search {
  /**
   * Finds documents that have all words of the text, among all that were committed before.
   * @throws SEARCH_INVALID for fields or facets that the index does not have
   */
  find<Field extends string, Facet extends string>(
    index: Index<Field, Facet>,
    query: SearchQuery<Field, Facet>,
  ): Promise<SearchResult<Field, Facet>>
  /**
   * Fills the index anew while it is read and written, then switches to the new content at once: after a change of its definition,
   * or if tables were written without it. `source` yields all documents, a batch at a time. It is called when the rebuild has begun,
   * and must not have read before that.
   * @returns how many documents there were
   * @throws SEARCH_REBUILDING when another rebuild of this index runs
   */
  rebuild<Field extends string, Facet extends string>(
    index: Index<Field, Facet>,
    source: () => AsyncIterable<readonly { id: string | number; document: SearchDocument<Field, Facet> }[]>,
  ): Promise<number>
}

export interface SearchQuery<Field extends string = string, Facet extends string = string> {
  /** Words, "phrases", and either with a minus in front. Any text is valid. */
  text: string
  /** Only documents that have one of the values of each facet. */
  filters?: { readonly [Name in Facet]?: readonly string[] }
  /** Facets whose values are counted. */
  facets?: readonly Facet[]
  /** 1 … 100, default 20. */
  limit?: number
  /** 0 … 500, default 0. */
  offset?: number
  /** Whether the last word may be the beginning of a word, for results while somebody types. Default false. */
  prefix?: boolean
  /** Fields of which `highlights` holds a piece as HTML. */
  highlight?: readonly Field[]
}

export interface SearchResult<Field extends string = string, Facet extends string = string> {
  hits: { id: string; score: number; highlights: { [Name in Field]?: string } }[]
  /** How many documents match, or of those that were looked at, if `totalIs` is `at least`. */
  total: number
  totalIs: 'exact' | 'at least'
  /** The most common values, at most 50 of a facet, with the number of matching documents. */
  facets: { [Name in Facet]?: { value: string; count: number }[] }
  /** `estimated`: counted in a sample and scaled up. */
  facetsAre: 'exact' | 'estimated'
  /** The text with the words that were searched in place of misspelt ones. */
  corrected: string | undefined
  /** False if the server lacks pg_trgm, so that misspelt words are not corrected. */
  typoTolerance: boolean
}

const candidatesMax = 500
const limitMax = 100
/** Each rebuild that ends during a search costs one. */
const attemptsMax = 4
/** Most common words with a given beginning. The time of a search grows faster than their number. */
const beginningsMax = 10
const documentBytesMax = 200_000
/** For a facet value. Less than half of what an index of Postgres takes. */
const valueBytesMax = 1_000
const marksMax = 200
const batchMax = 100

/**
 * Describes an index.
 * @throws APP_INVALID for invalid names or options
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

/** Returns `index` and `unindex` of one transaction. The last change of each document goes out with the commit. */
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
          // In pieces, since each holds its locks to its end.
          for (let at = 0; at < batch.length; at += batchMax) {
            const piece = new Map<string, Prepared>()
            for (const { id, document } of batch.slice(at, at + batchMax)) {
              piece.set(idOf(index, id), prepared(index, document))
              await new Promise(setImmediate) // a long text takes some milliseconds, and other requests wait
            }
            await rebuild.put(Array.from(piece, ([id, document]) => ({ id, document })))
            count += piece.size
          }
        }
      } catch (error) {
        await rebuild.abandon().catch(() => {}) // the next rebuild clears it away
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

/** Cuts fields to the limit of a document, since a long text must not fail its transaction. */
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

/** A query with what the index knows of its terms. */
interface Planned {
  query: string
  marking: string
  ranking: string
  thinning: number
  thinningStrong: number
  /** Texts with other words, and queries by those words only. The likeliest is first. */
  corrections: readonly { text: string; query: string }[]
}

async function find(
  store: SearchStore,
  module: string | undefined,
  index: Index,
  query: SearchQuery,
): Promise<SearchResult> {
  checkNames(index, query)
  const search: Searching = {
    store,
    key: keyOf(module, index),
    facets: query.facets ?? [],
    highlight: query.highlight ?? [],
    bounds: boundsOf(query),
    ...tokensOf(query.text, query.prefix ?? false, index.language),
  }
  if (!search.tokens.some(({ excluded }) => !excluded)) return nothing(search)
  for (let attempt = 0; attempt < attemptsMax; attempt += 1) {
    const result = await searchOnce(search, false)
    if (result === undefined) continue // a rebuild has just ended, so there is another generation
    if (result.total > 0 || !result.typoTolerance) return result
    // No document has all of these words. Perhaps one of them is a typo that some documents have too.
    const again = await searchOnce(search, true)
    return again && again.total > 0 ? again : { ...result, corrected: undefined }
  }
  return nothing(search)
}

/** A search that has been checked and taken apart. */
interface Searching {
  store: SearchStore
  key: IndexKey
  text: string
  tokens: readonly Token[]
  facets: readonly string[]
  highlight: readonly string[]
  bounds: Pick<MatchQuery, 'filters' | 'facets' | 'candidatesMax' | 'limit' | 'offset'>
}

/** @throws SEARCH_INVALID for a field or facet that the index does not have */
function checkNames(index: Index, { filters = {}, facets = [], highlight = [] }: SearchQuery): void {
  const fields = Object.keys(index.fields)
  const unknown =
    [...facets, ...Object.keys(filters)].find((name) => !index.facets.includes(name)) ??
    highlight.find((name) => !fields.includes(name))
  if (unknown === undefined) return
  throw new RungError(
    'SEARCH_INVALID',
    `Index "${index.name}" has no "${unknown}" of that kind. Add it to defineIndex.`,
  )
}

function boundsOf({ filters = {}, facets = [], limit, offset }: SearchQuery): Searching['bounds'] {
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

function nothing({ facets }: Searching, typoTolerance = true): SearchResult {
  return {
    hits: [],
    total: 0,
    totalIs: 'exact',
    facets: Object.fromEntries(facets.map((facet) => [facet, []])),
    facetsAre: 'exact',
    corrected: undefined,
    typoTolerance,
  }
}

/** `doubtful`: also words that few documents have may be typos. Returns `undefined` when the generation that it looked at was dropped. */
async function searchOnce(search: Searching, doubtful: boolean): Promise<SearchResult | undefined> {
  const { store, key, text, tokens, highlight } = search
  const lookedUp = await store.lookUp(key, tokens, doubtful)
  const { generation, typos } = lookedUp
  if (generation === undefined) return nothing(search)
  const planned = plan(text, tokens, lookedUp)
  if (!planned || (doubtful && planned.corrections.length === 0)) return nothing(search, typos)
  const sampled = await sample(search, generation, planned)
  if (!sampled) return undefined
  const { matches, thinning } = sampled
  const hasMatches = matches.total > 0 || matches.hits.length > 0
  const corrected = hasMatches ? await correction(search, generation, planned, thinning) : ''
  if (corrected === undefined) return undefined
  const ids = matches.hits.map(({ id }) => id)
  const pieces =
    highlight.length > 0 && ids.length > 0
      ? await store.highlight(key, { generation, query: planned.marking, ids, fields: highlight })
      : []
  if (!pieces) return undefined
  const highlights = Map.groupBy(pieces, ({ id }) => id)
  return {
    hits: matches.hits.map(({ id, score }) => ({ id, score, highlights: marked(highlights.get(id) ?? []) })),
    total: Math.max(matches.total, matches.hits.length),
    totalIs: matches.more ? 'at least' : 'exact',
    facets: facetCounts(search, matches, 2 ** thinning),
    facetsAre: matches.more ? 'estimated' : 'exact',
    corrected: corrected || undefined,
    typoTolerance: typos,
  }
}

/** Looks at samples of the documents until one is large enough. */
async function sample(
  { store, bounds }: Searching,
  generation: number,
  { query, ranking, thinning: first, thinningStrong }: Planned,
): Promise<{ matches: Matches; thinning: number } | undefined> {
  for (let thinning = first; ; ) {
    const matches = await store.find({ ...bounds, generation, query, ranking, thinning, thinningStrong })
    if (!matches) return undefined
    const next = thinningAfter(matches.total, thinning, candidatesMax)
    if (next === undefined) return { matches, thinning }
    thinning = next
  }
}

/**
 * Returns the likeliest text with other words that finds something by itself: the matches may have another word than the likeliest.
 * Returns '' if there is none, `undefined` when the generation was dropped.
 */
async function correction(
  { store, bounds }: Searching,
  generation: number,
  { corrections, thinningStrong }: Planned,
  thinning: number,
): Promise<string | undefined> {
  if (corrections.length <= 1) return corrections[0]?.text ?? ''
  for (const { text, query } of corrections) {
    const one = { ...bounds, query, ranking: query, facets: [], limit: 1, offset: 0 }
    const matches = await store.find({ ...one, generation, thinning, thinningStrong })
    if (!matches) return undefined
    if (matches.hits.length > 0) return text
  }
  return ''
}

/** `scale`: how many documents one of the sample stands for. */
function facetCounts({ facets }: Searching, matches: Matches, scale: number): SearchResult['facets'] {
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

function plan(text: string, tokens: readonly Token[], { terms, documents }: LookedUp): Planned | undefined {
  const required: string[] = []
  const ranking: string[] = []
  const excluded: string[] = []
  const docs: number[] = []
  const docsStrong: number[] = []
  const corrected: { token: Token; others: readonly Suggestion[]; at: number }[] = []
  for (const [at, token] of tokens.entries()) {
    const { query, ranking: shorter, docs: own, strong, suggestions } = terms[at]!
    if (token.excluded) {
      if (query !== '') excluded.push(query)
      continue
    }
    const begun = token.kind === 'prefix' && suggestions.some(({ word }) => word.startsWith(token.text))
    const others = begun ? suggestions.slice(0, beginningsMax) : meant(token.text, suggestions)
    const alternatives = [...(query === '' ? [] : [query]), ...others.map((one) => one.query)]
    if (alternatives.length === 0) continue // too common to count
    const anyOf = alternatives.map((one) => `(${one})`).join(' | ')
    if (required.includes(`(${anyOf})`)) continue
    if (!begun && others.length > 0) corrected.push({ token, others, at: required.length })
    required.push(`(${anyOf})`)
    ranking.push(`(${shorter ?? anyOf})`)
    const ofOthers = others.reduce((sum, one) => sum + one.docs, 0)
    docs.push(own + ofOthers)
    docsStrong.push(strong + ofOthers)
  }
  if (required.length === 0) return undefined
  const thinning = thinningOf(docs, documents, candidatesMax)
  const queryOf = (all: readonly string[]) => [...all, ...excluded.map((one) => `!(${one})`)].join(' & ')
  const most = Math.max(0, ...corrected.map(({ others }) => others.length))
  const corrections = Array.from({ length: most }, (_, nth) => {
    const words = corrected.map(({ token, others, at }) => ({ token, at, ...(others[nth] ?? others[0]!) }))
    return {
      text: replaced(text, words),
      query: queryOf(required.map((one, at) => words.find((other) => other.at === at)?.query ?? one)),
    }
  })
  return {
    query: queryOf(required),
    marking: anyWordOf(required),
    ranking: ranking.join(' & '),
    thinning,
    thinningStrong: thinningOf(docsStrong, documents, candidatesMax / 2),
    corrections,
  }
}

function marked(pieces: readonly Highlight[]): Record<string, string> {
  return Object.fromEntries(
    pieces.map(({ field, html }) => [field, html.replaceAll('\u0001', '<mark>').replaceAll('\u0002', '</mark>')]),
  )
}

function whole(given: number | undefined, standard: number, least: number, most: number): number {
  return given === undefined || Number.isNaN(given) ? standard : Math.min(most, Math.max(least, Math.floor(given)))
}
