import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { type ConnectionConfig, connectOnce } from '../src/engines/postgres/client.ts'
import { startEmbedded } from '../src/engines/postgres/embedded.ts'
import { sleep } from '../src/kernel/clock.ts'
import { seededRandom } from '../src/kernel/random.ts'
import { migrate } from '../src/migrations/migrate.ts'
import { apartSearch } from '../src/primitives/search/apart.ts'
import { defineIndex, type SearchQuery, searchFor } from '../src/primitives/search/search.ts'
import { tableSearch } from '../src/primitives/search/table.ts'
import { systemMigrations } from '../src/runtime/migrations.ts'
import { openPrimitives } from '../src/runtime/primitives.ts'
import { openDatabase, openSignals } from '../src/runtime/wire.ts'
import { rung1k } from '../src/topology/rungs/1k.ts'
import type { Bench } from './run.ts'
import { machineFacts, progress, spread, table } from './support/report.ts'
import { documentOf, misspelt, vocabularyOf } from './support/search-corpus.ts'

/** In each round, one after the other. */
const searches = 300
/** Beside them, at fixed times, so that a slow write delays none of the next. */
const writesASecond = 30
const targetP95Ms = 100

const articles = defineIndex('articles', {
  language: 'english',
  fields: { title: { weight: 'A' }, description: { weight: 'B' }, body: { weight: 'D' } },
  facets: ['tag', 'author'],
})

type Place = 'together' | 'apart'

const bench: Bench = {
  claim: 'search in a database of its own: at most 100 ms at p95 with typos, facets and highlights beside writes',
  async run({ json, rounds = 5, documents = 100_000 }) {
    const dir = await mkdtemp(path.join(tmpdir(), 'rung-bench-'))
    const [together, core, own] = await Promise.all(
      ['together', 'core', 'search'].map((name) => startEmbedded({ root: path.join(dir, name), connectionsMax: 60 })),
    )
    try {
      const measured = {} as Record<Place, Awaited<ReturnType<typeof measure>>>
      progress('search in the database of the app')
      measured.together = await measure(together!.connection, undefined, documents, rounds)
      progress('search in a database of its own')
      measured.apart = await measure(core!.connection, own!.connection, documents, rounds)
      if (!json) show(measured)
      const [version] = await rowsOf(core!.connection, 'show server_version')
      return {
        claim: bench.claim,
        facts: machineFacts(String(version!.server_version)),
        targetP95Ms,
        documents,
        writesASecond,
        ...measured,
        searchHolds: measured.apart.searchP95Ms.median <= targetP95Ms,
      }
    } finally {
      await Promise.all([together, core, own].map((server) => server!.stop()))
      await rm(dir, { recursive: true, force: true })
    }
  },
}
export default bench

async function measure(
  connection: ConnectionConfig,
  own: ConnectionConfig | undefined,
  documents: number,
  rounds: number,
) {
  await migrate({ connection, migrations: systemMigrations })
  const limits = { ...rung1k.data, statementTimeoutMs: 0, lockTimeoutMs: 30_000 }
  const database = openDatabase(limits, connection)
  const target = own && openDatabase(limits, own, 'search')
  const prepare = () => migrate({ connection: own!, migrations: systemMigrations })
  const apart = target && apartSearch({ core: database, target, documents: tableSearch(target), prepare })
  const primitives = openPrimitives({
    databases: [{ database }],
    signals: await openSignals(database, async () => connection),
    search: apart && (() => apart),
  })
  try {
    const search = searchFor('bench', primitives.stores.main.searchStore)
    const { write } = primitives.data.forModule('bench')
    const vocabulary = vocabularyOf(40_000)
    await rowsOf(connection, 'create schema bench')
    await rowsOf(connection, 'create table bench.line (id bigserial primary key, text text not null)')
    const began = performance.now()
    await search.rebuild(articles, async function* () {
      for (let n = 0; n < documents; n += 500) {
        const size = Math.min(500, documents - n)
        yield Array.from({ length: size }, (_, at) => ({ id: n + at, document: documentOf(n + at, vocabulary) }))
        if (n % 10_000 === 0) progress(`  ${n} documents, ${Math.round((performance.now() - began) / 1000)} s`)
      }
    })
    const rebuildMs = Math.round(performance.now() - began)
    const random = seededRandom(11)
    const word = (lettersMin: number): string => {
      const words = documentOf(Math.floor(random() * documents), vocabulary).body.split(' ')
      const one = words[Math.floor(random() * words.length)]!
      return one.length >= lettersMin ? one : word(lettersMin)
    }
    const facets = ['tag', 'author'] as const
    const highlight = ['title', 'body'] as const
    const queries: (() => SearchQuery<'title' | 'description' | 'body', 'tag' | 'author'>)[] = [
      () => ({ text: `${word(1)} ${word(1)}`, facets, highlight }),
      () => ({ text: misspelt(random, word(5)), facets, highlight }),
      () => ({ text: `${word(1)} ${word(5).slice(0, 3)}`, facets, highlight, prefix: true }),
    ]
    let next = documents
    const searchMs: number[] = []
    const coreMs: number[] = []
    for (let round = 0; round < rounds; round += 1) {
      const found: number[] = []
      const wrote: number[] = []
      let searching = true
      const writeOne = async () => {
        const document = documentOf(next++, vocabulary)
        await write(async (tx) => {
          const [row] = await tx<{ id: string }>`insert into bench.line (text) values (${document.body}) returning id`
          tx.index(articles, `line-${row!.id}`, document)
        })
      }
      const writing = (async () => {
        const sent: Promise<unknown>[] = []
        while (searching) {
          sent.push(timeOf(writeOne).then((ms) => wrote.push(ms)))
          await sleep(1000 / writesASecond)
        }
        await Promise.all(sent)
      })()
      const feeding = (async () => {
        while (searching && apart) {
          await apart.feed()
          await sleep(200) // as a worker does
        }
      })()
      const searchAll = async () => {
        for (let n = 0; n < searches; n += 1)
          found.push(await timeOf(() => search.find(articles, queries[n % queries.length]!())))
      }
      await Promise.all([
        searchAll().finally(() => {
          searching = false
        }),
        writing,
        feeding,
      ])
      searchMs.push(p95(found))
      coreMs.push(p95(wrote))
      progress(`  searches p95 ${p95(found).toFixed(1)} ms, writes p95 ${p95(wrote).toFixed(1)} ms`)
    }
    return {
      rebuildMs,
      searchP95Ms: spread(searchMs),
      /** Of a transaction of the app that also changes a document. */
      writeP95Ms: spread(coreMs),
    }
  } finally {
    await primitives.close()
    await database.close()
    await target?.close()
  }
}

async function timeOf(work: () => Promise<unknown>): Promise<number> {
  const began = performance.now()
  await work()
  return performance.now() - began
}

function p95(times: readonly number[]): number {
  return [...times].sort((a, b) => a - b)[Math.ceil(times.length * 0.95) - 1]!
}

async function rowsOf(connection: ConnectionConfig, text: string): Promise<Record<string, unknown>[]> {
  const client = await connectOnce(connection)
  try {
    return (await client.query(text)).rows
  } finally {
    await client.end()
  }
}

function show(measured: Record<Place, Awaited<ReturnType<typeof measure>>>): void {
  const rows = Object.entries(measured).map(([place, { searchP95Ms, writeP95Ms }]) => [
    place,
    ...[searchP95Ms, writeP95Ms].map(({ median }) => median.toFixed(1)),
  ])
  console.log(table([['', 'search p95 ms', 'write p95 ms'], ...rows]))
}
