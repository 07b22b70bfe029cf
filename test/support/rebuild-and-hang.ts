/** A process that has put half of an index, and then waits to be killed. */

import { postgresDatabase } from '../../src/primitives/data/postgres.ts'
import { defineIndex, searchFor } from '../../src/primitives/search/search.ts'
import { tableSearch } from '../../src/primitives/search/table.ts'

const database = postgresDatabase({
  name: 'main',
  connection: JSON.parse(process.argv[2]!),
  connectionsMax: { read: 1, write: 2 },
  idleTimeoutMs: 60_000,
  limits: { statementTimeoutMs: 60_000, lockTimeoutMs: 30_000, idleInTransactionTimeoutMs: 30_000 },
})
const articles = defineIndex('articles', { language: 'english', fields: { title: { weight: 'A' } } })
process.on('disconnect', () => process.exit(0))
await searchFor('m', tableSearch(database)).rebuild(articles, async function* () {
  yield [{ id: 2, document: { title: 'half' } }]
  process.send!('half')
  await new Promise(() => {})
})
