import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { eq } from 'drizzle-orm'
import { drizzle } from 'drizzle-orm/node-postgres'
import { bigint, integer, jsonb, pgTable, text, timestamp } from 'drizzle-orm/pg-core'
import { Kysely, PostgresDialect } from 'kysely'
import { isRungError } from '../../../src/kernel/errors.ts'
import type { Database } from '../../../src/primitives/data/contract.ts'
import { createData, type Data } from '../../../src/primitives/data/data.ts'
import { openPostgres } from '../../support/data.ts'
import { type TestPostgres, testPostgres } from '../../support/postgres.ts'

/** Libraries that app authors mount on `data.pool`. */
describe('mounted on data.pool', () => {
  let postgres: TestPostgres
  let database: Database
  let data: Data
  before(async () => {
    postgres = await testPostgres()
    database = await openPostgres(postgres)
    data = createData(database).forModule('shop')
    await data.write((tx) => tx`create table item (id int primary key, label text not null)`)
    await data.write(
      (tx) =>
        tx`create table kinds (id int primary key, at timestamptz, local timestamp, many text[], doc jsonb, big bigint)`,
    )
  })
  after(async () => {
    await database.close()
    await postgres.stop()
  })

  async function labelOf(id: number): Promise<string | undefined> {
    const [row] = await data.read((sql) => sql<{ label: string }>`select label from item where id = ${id}`)
    return row?.label
  }

  describe('kysely', () => {
    const db = () =>
      new Kysely<{ item: { id: number; label: string } }>({
        dialect: new PostgresDialect({ pool: data.pool }),
      })

    it('reads and writes', async () => {
      await db().insertInto('item').values({ id: 1, label: 'one' }).execute()
      assert.deepEqual(await db().selectFrom('item').selectAll().where('id', '=', 1).execute(), [
        { id: 1, label: 'one' },
      ])
    })

    it('has transactions of its own', async () => {
      await assert.rejects(
        db()
          .transaction()
          .execute(async (trx) => {
            await trx.insertInto('item').values({ id: 2, label: 'two' }).execute()
            throw new Error('no')
          }),
        /no/,
      )
      assert.equal(await labelOf(2), undefined)
    })

    it('is part of an open write', async () => {
      await assert.rejects(
        data.write(async (tx) => {
          await tx`insert into item values (3, 'three')`
          await db().updateTable('item').set({ label: 'THREE' }).where('id', '=', 3).execute()
          const [row] = await tx<{ label: string }>`select label from item where id = 3`
          assert.equal(row!.label, 'THREE')
          throw new Error('no')
        }),
        /no/,
      )
      assert.equal(await labelOf(3), undefined)
    })

    it('cannot open a transaction inside one', async () => {
      await assert.rejects(
        data.write(() =>
          db()
            .transaction()
            .execute((trx) => trx.selectFrom('item').selectAll().execute()),
        ),
        (error) => isRungError(error, 'DATA_OUTSIDE_TRANSACTION'),
      )
    })
  })

  const kinds = {
    at: new Date('2026-03-01T00:30:00Z'),
    local: new Date('2026-03-01T00:30:00Z'),
    many: ['a', 'b,"c"'],
    doc: [{ a: 1 }],
    big: 5,
  }

  it('kysely writes and reads each kind of value', async () => {
    const db = new Kysely<{ kinds: Record<string, unknown> }>({
      dialect: new PostgresDialect({ pool: data.pool }),
    })
    await db
      .insertInto('kinds')
      .values({ ...kinds, id: 1, doc: JSON.stringify(kinds.doc) })
      .execute()
    const read = await db.selectFrom('kinds').selectAll().where('id', '=', 1).executeTakeFirst()
    assert.deepEqual(read, { ...kinds, id: 1, local: '2026-03-01 00:30:00' })
  })

  it('drizzle writes and reads each kind of value', async () => {
    const table = pgTable('kinds', {
      id: integer().primaryKey(),
      at: timestamp({ withTimezone: true }),
      local: timestamp(),
      many: text().array(),
      doc: jsonb(),
      big: bigint({ mode: 'number' }),
    })
    const db = drizzle({ client: data.pool })
    await db.insert(table).values({ id: 2, ...kinds })
    assert.deepEqual(await db.select().from(table).where(eq(table.id, 2)), [{ id: 2, ...kinds }])
  })

  describe('drizzle', () => {
    const item = pgTable('item', { id: integer().primaryKey(), label: text().notNull() })
    const db = () => drizzle({ client: data.pool })

    it('reads and writes', async () => {
      await db().insert(item).values({ id: 11, label: 'eleven' })
      assert.deepEqual(await db().select().from(item).where(eq(item.id, 11)), [{ id: 11, label: 'eleven' }])
    })

    it('has transactions of its own', async () => {
      await assert.rejects(
        db().transaction(async (tx) => {
          await tx.insert(item).values({ id: 12, label: 'twelve' })
          throw new Error('no')
        }),
        /no/,
      )
      assert.equal(await labelOf(12), undefined)
    })

    it('is part of an open write', async () => {
      await data.write(async (tx) => {
        await tx`insert into item values (13, 'thirteen')`
        await db().update(item).set({ label: 'THIRTEEN' }).where(eq(item.id, 13))
      })
      assert.equal(await labelOf(13), 'THIRTEEN')
    })
  })

  it('a library that ends its pool does not end the app', async () => {
    await data.pool.end()
    assert.equal(await labelOf(1), 'one')
  })
})
