import { RungError } from '../../kernel/errors.ts'
import type { Riding } from '../data/rides.ts'
import type { Found, Highlight, LookedUp, Suggestion } from './answers.ts'
import type { Change, IndexKey, Prepared, SearchStore, Weight } from './contract.ts'
import { cut, formCostMax, formOf } from './normal.ts'
import { anyWordOf, clean, meant, replaced, type Token, thinningAfter, thinningOf, tokensOf } from './query.ts'

/** What can be found, and by what. Inert; its name belongs to the module that uses it. */
export interface Index<Field extends string = string, Facet extends string = string> {
  readonly name: string
  readonly language: Language
  readonly fields: Readonly<Record<Field, FieldOptions>>
  readonly facets: readonly Facet[]
}

export interface FieldOptions {
  /** How much a word in it counts: A 1, B 0.4, C 0.2, D 0.1 (default). */
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
/** How words are stemmed, and which are too common to count; `simple`: not at all. */
export type Language = (typeof languages)[number]

/** The values of fields and facets; what is absent or null is not searched. */
export type SearchDocument<Field extends string = string, Facet extends string = string> = {
  readonly [Name in Field | Facet]?: string | readonly string[] | null
}

/** Part of a transaction's handle. */
export interface Indexing {
  /** Puts the document into the index, in place of what was there under this id, when this transaction commits. */
  index<Field extends string, Facet extends string>(
    index: Index<Field, Facet>,
    id: string | number,
    document: SearchDocument<Field, Facet>,
  ): void
  /** Takes it out when this transaction commits. */
  unindex(index: Index, id: string | number): void
}

/** Search as a module sees it, outside transactions. */
export interface Search {
  /** Documents that have all words of the text. Finds whatever was committed before. */
  find<Field extends string, Facet extends string>(
    index: Index<Field, Facet>,
    query: SearchQuery<Field, Facet>,
  ): Promise<SearchResult<Field, Facet>>
  /**
   * Fills the index anew while it is read and written, then switches to the new content at once: after a change of its
   * definition, or where tables were written without it. `source` gives all documents, a batch at a time; it is called once
   * the rebuild has begun, and must read from then on. Gives how many documents there were.
   * @throws SEARCH_REBUILDING when another rebuild of this index runs
   */
  rebuild<Field extends string, Facet extends string>(
    index: Index<Field, Facet>,
    source: () => AsyncIterable<readonly { id: string | number; document: SearchDocument<Field, Facet> }[]>,
  ): Promise<number>
}

export interface SearchQuery<Field extends string = string, Facet extends string = string> {
  /** Words, "phrases", and either with a minus in front. Anything may stand here. */
  text: string
  /** Documents that have one of the values of each facet. */
  filters?: { readonly [Name in Facet]?: readonly string[] }
  /** Facets whose values are counted. */
  facets?: readonly Facet[]
  /** 1 … 100, default 20. */
  limit?: number
  /** Default 0. Among the best 500. */
  offset?: number
  /** The last word may be the beginning of one: for results while somebody types. Default false. */
  prefix?: boolean
  /** Fields of which `highlights` gives a piece of HTML. */
  highlight?: readonly Field[]
}

export interface SearchResult<Field extends string = string, Facet extends string = string> {
  hits: { id: string; score: number; highlights: { [Name in Field]?: string } }[]
  /** How many documents match; where `totalIs` is `at least`, there are more. */
  total: number
  totalIs: 'exact' | 'at least'
  /** The commonest values, at most 50 of a facet, with the number of matching documents. */
  facets: { [Name in Facet]?: { value: string; count: number }[] }
  /** `estimated`: counted in a sample, as `totalIs` says, and scaled up. */
  facetsAre: 'exact' | 'estimated'
  /** The text with the words that were looked for instead of misspelt ones. */
  corrected: string | undefined
  /** False where the server lacks pg_trgm: misspelt words are not corrected. */
  typoTolerance: boolean
}

const candidatesMax = 500
const limitMax = 100
/** Commonest words with a beginning: the time that a look takes grows faster than their number. */
const beginningsMax = 10
const documentBytesMax = 200_000
/** Of a facet value, bytes. Less than half of what an index of Postgres takes. */
const valueBytesMax = 1_000
const marksMax = 200
const batchMax = 100

/**
 * Describes an index.
 * @throws APP_INVALID for names or options that mean nothing
 */
export function defineIndex<const Field extends string, const Facet extends string = never>(
  name: string,
  definition: { language: Language; fields: Record<Field, FieldOptions>; facets?: readonly Facet[] },
): Index<Field, Facet> {
  const { language, fields, facets = [] } = definition
  const invalid = (what: string) => new RungError('APP_INVALID', `Index "${name}": ${what}`)
  if (!/^[a-z][a-z0-9-]{0,62}$/.test(name)) throw invalid('write its name like articles or article-comments.')
  if (!languages.includes(language)) throw invalid(`"${language}" is no language; one of ${languages.join(', ')}.`)
  if (Object.keys(fields).length === 0) throw invalid('it needs a field.')
  for (const one of [...Object.keys(fields), ...facets]) {
    if (!/^[A-Za-z][A-Za-z0-9_]{0,62}$/.test(one)) throw invalid(`"${one}" is no name; letters, digits and _ make one.`)
  }
  for (const { weight = 'D' } of Object.values<FieldOptions>(fields)) {
    if (!/^[ABCD]$/.test(weight)) throw invalid(`"${weight}" is no weight; one of A, B, C, D.`)
  }
  return { name, language, fields, facets }
}

/** `index` and `unindex` of one transaction: the last change of each document goes out with the commit. */
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
          // In pieces: their locks are held for the length of one.
          for (let at = 0; at < batch.length; at += batchMax) {
            const piece = new Map<string, Prepared>()
            for (const { id, document } of batch.slice(at, at + batchMax)) {
              piece.set(idOf(index, id), prepared(index, document))
              await new Promise(setImmediate) // a long text takes a while, and there are many
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

/** Fields are kept as far as the limit of a document reaches: a long text must not fail its transaction. */
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

/** The terms of a query with what the index says of them. */
interface Planned {
  query: string
  marking: string
  ranking: string
  thinning: number
  thinningStrong: number
  /** The text with other words, and what is looked for by them alone; the likeliest first. */
  corrections: readonly { text: string; query: string }[]
}

async function find(
  store: SearchStore,
  module: string | undefined,
  index: Index,
  query: SearchQuery,
): Promise<SearchResult> {
  const known = (names: readonly string[], among: readonly string[]) => {
    const other = names.find((name) => !among.includes(name))
    if (other === undefined) return
    throw new RungError(
      'SEARCH_INVALID',
      `Index "${index.name}" has no "${other}" of that kind. Add it to defineIndex.`,
    )
  }
  const { filters = {}, facets = [], highlight = [], prefix = false } = query
  known([...facets, ...Object.keys(filters)], index.facets)
  known(highlight, Object.keys(index.fields))
  const key = keyOf(module, index)
  const { text, tokens } = tokensOf(query.text, prefix, index.language)
  const wanted = {
    filters: Object.entries(filters).flatMap(([facet, values]) =>
      values ? [values.slice(0, marksMax).map((value) => markOf(facet, value.slice(0, valueBytesMax + 1)))] : [],
    ),
    facets: [...new Set(facets)],
    candidatesMax,
    limit: whole(query.limit, 20, 1, limitMax),
    offset: whole(query.offset, 0, 0, candidatesMax),
  }
  const nothing: SearchResult = {
    hits: [],
    total: 0,
    totalIs: 'exact',
    facets: Object.fromEntries(facets.map((facet) => [facet, []])),
    facetsAre: 'exact',
    corrected: undefined,
    typoTolerance: true,
  }
  if (!tokens.some(({ excluded }) => !excluded)) return nothing
  for (let attempt = 0; ; attempt += 1) {
    const answer = await ask(false)
    if (answer === undefined && attempt < 3) continue // a rebuild has just ended: look again
    if (answer === undefined) return nothing
    if (answer.total > 0) return answer
    // Nothing has all of these words: perhaps one of them is a typo that somebody else made too.
    const again = answer.typoTolerance ? await ask(true) : undefined
    return again && again.total > 0 ? again : { ...answer, corrected: undefined }
  }

  async function ask(doubtful: boolean): Promise<SearchResult | undefined> {
    const looked = await store.lookUp(key, tokens, doubtful)
    const { generation, typos: typoTolerance } = looked
    if (generation === undefined) return nothing
    const planned = plan(text, tokens, looked)
    if (!planned || (doubtful && planned.corrections.length === 0)) return { ...nothing, typoTolerance }
    const { query, ranking, thinningStrong } = planned
    let { thinning } = planned
    let found: Found | undefined
    for (let next: number | undefined = thinning; next !== undefined; ) {
      thinning = next
      found = await store.find({ ...wanted, generation, query, ranking, thinning, thinningStrong })
      if (!found) return undefined
      next = thinningAfter(found.total, thinning, candidatesMax)
    }
    if (!found) return undefined
    let corrected = planned.corrections[0]
    // What was found may have another word than the likeliest: none is told that finds nothing.
    if (planned.corrections.length > 1) {
      corrected = undefined
      for (const one of planned.corrections) {
        const byIt = { ...wanted, query: one.query, ranking: one.query, facets: [], limit: 1, offset: 0 }
        const hits = await store.find({ ...byIt, generation, thinning, thinningStrong })
        if (!hits) return undefined
        if (hits.hits.length === 0) continue
        corrected = one
        break
      }
    }
    const ids = found.hits.map(({ id }) => id)
    const pieces =
      highlight.length > 0 && ids.length > 0
        ? await store.highlight(key, { generation, query: planned.marking, ids, fields: highlight })
        : []
    if (!pieces) return undefined
    const highlights = Map.groupBy(pieces, ({ id }) => id)
    const scale = 2 ** thinning
    const counts = Map.groupBy(found.facets, ({ mark }) => mark.slice(0, mark.indexOf('=')))
    return {
      hits: found.hits.map(({ id, score }) => ({ id, score, highlights: marked(highlights.get(id) ?? []) })),
      total: Math.max(found.total, found.hits.length),
      totalIs: found.more ? 'at least' : 'exact',
      facets: Object.fromEntries(
        facets.map((facet) => [
          facet,
          (counts.get(facet) ?? []).map(({ mark, count }) => ({
            value: mark.slice(facet.length + 1),
            count: count * scale,
          })),
        ]),
      ),
      facetsAre: found.more ? 'estimated' : 'exact',
      corrected: found.total > 0 || found.hits.length > 0 ? corrected?.text : undefined,
      typoTolerance,
    }
  }
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
