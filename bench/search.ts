import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { type ConnectionConfig, connectOnce } from '../src/engines/postgres/client.ts'
import { type EmbeddedPostgres, startEmbedded } from '../src/engines/postgres/embedded.ts'
import { seededRandom } from '../src/kernel/random.ts'
import { migrate } from '../src/migrations/migrate.ts'
import { defineIndex, type Search, type SearchQuery, searchFor } from '../src/primitives/search/search.ts'
import { systemMigrations } from '../src/runtime/migrations.ts'
import { openPrimitives, type Primitives } from '../src/runtime/primitives.ts'
import { openDatabase, openSignals } from '../src/runtime/wire.ts'
import { rung1k } from '../src/topology/rungs/1k.ts'
import type { Bench } from './run.ts'
import { machineFacts, progress, rounded, spread, table } from './support/report.ts'
import { documentOf, misspelt, vocabularyOf } from './support/search-corpus.ts'

const documents = 100_000
const queries = 500
const typos = 200
const writes = 200
const targets = { twoWordsP95Ms: 10, typosFound: 0.9 }

const articles = defineIndex('articles', {
  language: 'english',
  fields: { title: { weight: 'A' }, description: { weight: 'B' }, body: { weight: 'D' } },
  facets: ['tag', 'author'],
})

const bench: Bench = {
  claim: 'search of 100,000 documents: two words with facets within 10 ms at p95, nine of ten typos found',
  async run({ json, rounds = 5, data }) {
    const dir = data === undefined ? await mkdtemp(path.join(tmpdir(), 'rung-bench-')) : path.join(data, 'search')
    const server = await startEmbedded({ root: dir, connectionsMax: 60 })
    try {
      return await measure(server, rounds, json)
    } finally {
      await server.stop()
      if (data === undefined) await rm(dir, { recursive: true, force: true })
    }
  },
}
export default bench

async function measure({ connection }: EmbeddedPostgres, rounds: number, json: boolean): Promise<object> {
  await migrate({ connection, migrations: systemMigrations })
  const database = openDatabase(
    { ...rung1k.data, writeConnectionsMax: 8, statementTimeoutMs: 0, lockTimeoutMs: 30_000 },
    connection,
  )
  const primitives = openPrimitives({
    databases: [{ database }],
    signals: await openSignals(database, async () => connection),
  })
  try {
    const search = searchFor('bench', primitives.stores.main.searchStore)
    const vocabulary = vocabularyOf(40_000)
    const rebuildMs = await fill(connection, search, vocabulary)
    const random = seededRandom(11)
    const wordsOfSome = (count: number) => {
      const words = documentOf(Math.floor(random() * documents), vocabulary).body.split(' ')
      return Array.from({ length: count }, () => words[Math.floor(random() * words.length)]!)
    }
    const facets = ['tag', 'author'] as const
    const kinds: Record<string, () => SearchQuery<'title' | 'description' | 'body', 'tag' | 'author'>> = {
      'two words of a text, facets': () => ({ text: wordsOfSome(2).join(' '), facets }),
      'two words, facets, a filter': () => ({
        text: wordsOfSome(2).join(' '),
        facets,
        filters: { tag: ['tag-1', 'tag-2'] },
      }),
      'two words, highlights': () => ({ text: wordsOfSome(2).join(' '), highlight: ['title', 'body'] }),
      'two of the 20 commonest, facets': () => ({
        text: `${vocabulary[Math.floor(random() * 20)]} ${vocabulary[Math.floor(random() * 20)]}`,
        facets,
      }),
      'the beginning of a word, facets': () => {
        const [first, second] = wordsOfSome(2)
        return { text: `${first} ${second!.slice(0, 3)}`, facets, prefix: true }
      },
      'a misspelt word, facets': () => ({ text: misspelt(random, longWord()), facets }),
    }
    const longWord = () => {
      for (;;) {
        const [word] = wordsOfSome(1)
        if (word!.length >= 5) return word!
      }
    }
    const found: Record<string, Record<'p50Ms' | 'p95Ms' | 'p99Ms', number>> = {}
    for (const [kind, make] of Object.entries(kinds)) {
      for (let n = 0; n < 50; n += 1) await search.find(articles, make())
      const took: number[] = []
      for (let n = 0; n < queries; n += 1) {
        const query = make()
        const began = performance.now()
        await search.find(articles, query)
        took.push(performance.now() - began)
      }
      took.sort((a, b) => a - b)
      const at = (share: number) => took[Math.ceil(took.length * share) - 1]!
      found[kind] = { p50Ms: at(0.5), p95Ms: at(0.95), p99Ms: at(0.99) }
      progress(`  ${kind}: p50 ${at(0.5).toFixed(1)} p95 ${at(0.95).toFixed(1)} p99 ${at(0.99).toFixed(1)} ms`)
    }
    const typosFound = await findTypos(search, longWord)
    const writeCost = await writing(primitives, vocabulary, rounds)
    const sizes = await sizesOf(connection)
    if (!json) show(found, { rebuildMs, typosFound, writeCost: writeCost.ratio.median, ...sizes })
    const [version] = await query(connection, 'show server_version')
    return {
      claim: bench.claim,
      facts: machineFacts(String(version!.server_version)),
      targets,
      documents,
      find: Object.fromEntries(
        Object.entries(found).map(([kind, one]) => [
          kind,
          Object.fromEntries(Object.entries(one).map(([name, ms]) => [name, Math.round(ms * 100) / 100])),
        ]),
      ),
      typosFound,
      writesASecond: {
        plain: rounded(writeCost.plain),
        indexed: rounded(writeCost.indexed),
        ratio: rounded(writeCost.ratio),
      },
      rebuildMs,
      ...sizes,
    }
  } finally {
    await primitives.close()
    await database.close()
  }
}

/** Once for each data folder. */
async function fill(
  connection: ConnectionConfig,
  search: Search,
  vocabulary: readonly string[],
): Promise<number | undefined> {
  const known = await query(connection, "select from rung.search_index where module = 'bench'")
  if (known.length > 0) return undefined
  await query(connection, 'create schema bench; create table bench.line (id bigserial primary key, text text not null)')
  const began = performance.now()
  await search.rebuild(articles, async function* () {
    for (let n = 0; n < documents; n += 500) {
      yield Array.from({ length: 500 }, (_, at) => ({ id: n + at, document: documentOf(n + at, vocabulary) }))
      if (n % 10_000 === 0) progress(`  ${n} documents, ${Math.round((performance.now() - began) / 1000)} s`)
    }
  })
  const tookMs = Math.round(performance.now() - began)
  await query(connection, 'checkpoint').catch(() => {}) // only who may
  return tookMs
}

/** The share of misspelt words for which the word that was meant is among those looked for. */
async function findTypos(search: Search, longWord: () => string): Promise<number> {
  const random = seededRandom(13)
  let count = 0
  for (let n = 0; n < typos; n += 1) {
    const word = longWord()
    const [meant, { hits, corrected }] = await Promise.all([
      search.find(articles, { text: word, limit: 1 }),
      search.find(articles, { text: misspelt(random, word), limit: 100, highlight: ['title', 'description', 'body'] }),
    ])
    const marks = new RegExp(`<mark>${word}</mark>`)
    if (
      meant.total > 0 &&
      (corrected === word || hits.some(({ highlights }) => marks.test(Object.values(highlights).join(' '))))
    )
      count += 1
  }
  return count / typos
}

/** The same write with and without a document of a few hundred words, one after the other. */
async function writing({ data }: Primitives, vocabulary: readonly string[], rounds: number) {
  const { write } = data.forModule('bench')
  const measured = { plain: [] as number[], indexed: [] as number[] }
  let next = documents
  for (let round = 0; round < rounds; round += 1) {
    for (const kind of ['plain', 'indexed'] as const) {
      const made = Array.from({ length: writes }, () => documentOf(next++, vocabulary))
      const began = performance.now()
      for (const document of made) {
        await write(async (tx) => {
          const [row] = await tx<{ id: string }>`insert into bench.line (text) values (${document.body}) returning id`
          if (kind === 'indexed') tx.index(articles, `line-${row!.id}`, document)
        })
      }
      measured[kind].push((writes / (performance.now() - began)) * 1000)
    }
  }
  const ratio = spread(measured.plain.map((plain, at) => plain / measured.indexed[at]!))
  return { plain: spread(measured.plain), indexed: spread(measured.indexed), ratio }
}

async function sizesOf(connection: ConnectionConfig): Promise<Record<'tablesMiB' | 'indexMiB' | 'nodeMiB', number>> {
  const [row] = await query(
    connection,
    `select sum(pg_table_size(c.oid)) / 1048576 as tables, sum(pg_indexes_size(c.oid)) / 1048576 as indexes
      from pg_class c where c.relnamespace = 'rung'::regnamespace and c.relname like 'search_%' and c.relkind = 'r'`,
  )
  return {
    tablesMiB: Math.round(Number(row!.tables)),
    indexMiB: Math.round(Number(row!.indexes)),
    nodeMiB: Math.round(process.memoryUsage().rss / 1024 ** 2),
  }
}

async function query(connection: ConnectionConfig, text: string): Promise<Record<string, unknown>[]> {
  const client = await connectOnce(connection)
  try {
    const { rows } = await client.query(text)
    return rows
  } finally {
    await client.end()
  }
}

function show(found: Record<string, Record<string, number>>, rest: Record<string, number | undefined>): void {
  const rows = Object.entries(found).map(([kind, one]) => [kind, ...Object.values(one).map((ms) => ms.toFixed(1))])
  console.log(table([['', 'p50 ms', 'p95 ms', 'p99 ms'], ...rows]))
  for (const [name, value] of Object.entries(rest)) if (value !== undefined) console.log(`${name}: ${value}`)
}
