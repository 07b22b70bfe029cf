import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { isRungError } from '../../../src/kernel/errors.ts'
import { formatPlace } from '../../../src/kernel/position.ts'
import { currentScope, runInScope, Scope } from '../../../src/kernel/scope.ts'
import type { Database } from '../../../src/primitives/data/contract.ts'
import { createData, type Data } from '../../../src/primitives/data/data.ts'
import { openPostgres } from '../../support/data.ts'
import { type TestPostgres, testPostgres } from '../../support/postgres.ts'

describe('batch', () => {
  let postgres: TestPostgres
  let database: Database
  let data: Data
  before(async () => {
    postgres = await testPostgres()
    database = await openPostgres(postgres)
    data = createData(database).forModule('shop')
    await data.write((tx) => tx`create table item (id int primary key, n int not null)`)
    await data.write((tx) => tx`insert into item select id, id * 10 from generate_series(1, 2000) id`)
  })
  after(async () => {
    await database.close()
    await postgres.stop()
  })

  /** A look-up, and the sizes of the batches that it was asked in. */
  function lookUp() {
    const sizes: number[] = []
    const numberOf = data.batch(async (sql, ids: readonly number[]) => {
      sizes.push(ids.length)
      const rows = await sql<{ id: number; n: number }>`select id, n from item where id = any(${ids}::int[])`
      const byId = new Map(rows.map(({ id, n }) => [id, n]))
      return ids.map((id) => byId.get(id))
    })
    return { numberOf, sizes }
  }

  it('asks once for all that is asked for at one moment, and gives each its own', async () => {
    const { numberOf, sizes } = lookUp()
    assert.deepEqual(await Promise.all([3, 1, 9999, 3].map(numberOf)), [30, 10, undefined, 30])
    assert.deepEqual(sizes, [4])
    assert.equal(await numberOf(2), 20)
    assert.deepEqual(sizes, [4, 1])
  })

  it('splits what is too much for one statement', async () => {
    const { numberOf, sizes } = lookUp()
    const ids = Array.from({ length: 1201 }, (_, index) => index + 1)
    assert.deepEqual(
      await Promise.all(ids.map(numberOf)),
      ids.map((id) => id * 10),
    )
    assert.deepEqual(sizes, [500, 500, 201])
  })

  it('lets a bad key harm nobody else', async () => {
    const textOf = data.batch(async (sql, texts: readonly string[]) => {
      const rows = await sql<{ text: string }>`select text from unnest(${texts}::text[]) text`
      return rows.map(({ text }) => text)
    })
    const outcomes = await Promise.all(['a', 'b\0', 'c'].map((text) => textOf(text).catch((error: unknown) => error)))
    assert.deepEqual([outcomes[0], outcomes[2]], ['a', 'c'])
    assert.ok(isRungError(outcomes[1], 'DATA_VALUE'))
  })

  it('reads in an open transaction, alone', async () => {
    const { numberOf, sizes } = lookUp()
    await assert.rejects(
      data.write(async (tx) => {
        await tx`update item set n = -1 where id in (1, 2)`
        assert.deepEqual(await Promise.all([1, 2].map(numberOf)), [-1, -1])
        throw new Error('no')
      }),
      /no/,
    )
    assert.deepEqual(sizes, [1, 1])
    assert.equal(await numberOf(1), 10)
  })

  it('runs at the furthest position of those who ask', async () => {
    const seen: (string | undefined)[] = []
    const positionOf = data.batch(async (_sql, keys: readonly number[]) => {
      const at = currentScope()?.position.get('main')
      seen.push(at === undefined ? undefined : formatPlace(at))
      return keys
    })
    const writer = new Scope('request', 'w', 'POST /item')
    const reader = new Scope('request', 'r', 'GET /item')
    await runInScope(writer, () => data.write((tx) => tx`update item set n = 10 where id = 1`))
    await Promise.all([runInScope(reader, () => positionOf(1)), runInScope(writer, () => positionOf(2))])
    assert.deepEqual(seen, [formatPlace(writer.position.get('main')!)])
    assert.equal(reader.position.get('main'), writer.position.get('main')) // and whoever saw it stays there
  })

  it('keeps to the time of the last of those who ask', async () => {
    let deadlineAt = 0
    const ask = data.batch(async (_sql, keys: readonly number[]) => {
      deadlineAt = currentScope()!.deadlineAt
      return keys
    })
    const scopes = [1_000, 3_000, 2_000].map((at) => {
      const scope = new Scope('request', String(at), 'GET /')
      scope.deadlineAt = at
      return scope
    })
    await Promise.all(scopes.map((scope) => runInScope(scope, () => ask(1))))
    assert.equal(deadlineAt, 3_000)
  })
})
