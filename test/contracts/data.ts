import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { isRungError } from '../../src/kernel/errors.ts'
import { parsePlace, placeSql } from '../../src/kernel/position.ts'
import type { Connection, Database, Need, Target } from '../../src/primitives/data/contract.ts'
import { createData } from '../../src/primitives/data/data.ts'
import { until } from '../support/process.ts'

const forever = Number.POSITIVE_INFINITY
const reading: Need = { target: 'read', deadlineAt: forever }

/** What every adapter of the data primitive keeps. `open` gives a database with pools of two connections each. */
export function dataContract(name: string, open: () => Promise<Database>, skip: string | false = false): void {
  describe(`data contract: ${name}`, { skip }, () => {
    let database: Database
    before(async () => {
      database = await open()
      await using(database, 'write', (connection) =>
        connection.run(plain('create table thing (id int primary key, label text)')),
      )
      // A replica has it a moment later.
      const isThere = () => using(database, 'read', (connection) => connection.run(plain('select from thing')))
      await until(
        () =>
          isThere().then(
            () => true,
            () => false,
          ),
        'readers see the table',
      )
    })
    after(() => database.close())

    it('binds values and gives rows, their number and the command', async () => {
      const result = await using(database, 'read', (connection) =>
        connection.run({
          text: 'select $1::text as label, $2::int as n',
          values: [`'; drop table thing; --`, 7],
          name: 'c1',
        }),
      )
      assert.deepEqual({ ...result.rows[0] }, { label: `'; drop table thing; --`, n: 7 })
      assert.equal(result.rowCount, 1)
      assert.equal(result.command, 'SELECT')
    })

    it('goes on reading and writing while a column is added to the table', async () => {
      const data = createData(database).forModule('thing')
      const readAll = () => data.read((sql) => sql`select * from thing where id >= 0`)
      const writeOne = () => data.write((tx) => tx`update thing set label = label where id >= 0 returning *`)
      for (let n = 0; n < 8; n += 1) await Promise.all([readAll(), readAll(), writeOne(), writeOne()])
      await using(database, 'write', (connection) => connection.run(plain('alter table thing add column added int')))
      for (let n = 0; n < 8; n += 1) await Promise.all([readAll(), readAll(), writeOne(), writeOne()])
      await using(database, 'write', (connection) => connection.run(plain('alter table thing drop column added')))
      for (let n = 0; n < 8; n += 1) await Promise.all([readAll(), readAll(), writeOne(), writeOne()])
    })

    it('runs statements in the order they were sent, without waiting between them', async () => {
      const labels = await using(database, 'write', async (connection) => {
        const sent = [
          connection.run(plain("insert into thing values (1, 'a')")),
          connection.run(plain("update thing set label = label || 'b' where id = 1")),
          connection.run(plain('select label from thing where id = 1')),
        ]
        return (await Promise.all(sent))[2]!.rows
      })
      assert.deepEqual(
        labels.map((row) => row.label),
        ['ab'],
      )
    })

    it('keeps a failed statement from harming those behind it', async () => {
      await using(database, 'write', async (connection) => {
        const [bad, good] = await Promise.allSettled([
          connection.run(plain('select nothing from nowhere')),
          connection.run(plain('select 1 as one')),
        ])
        assert.equal(bad.status, 'rejected')
        assert.equal(good.status, 'fulfilled')
      })
    })

    it('answers each of the statements that were sent together, the second time like the first', async () => {
      await using(database, 'write', async (connection) => {
        const together = (id: number) =>
          Promise.all(
            connection.runTogether([
              { text: 'insert into thing values ($1, $2)', values: [id, null], name: 'c2' },
              { text: 'select id::bigint as id, label from thing where id = $1', values: [id], name: 'c3' },
              { text: 'select id from thing where id = $1', values: [-id], name: 'c4' },
              plain(`delete from thing where id = ${id}`),
            ]),
          )
        for (const id of [10, 11]) {
          const answers = await together(id)
          assert.deepEqual(
            answers.map(({ command, rowCount, rows }) => [command, rowCount, rows.map((row) => ({ ...row }))]),
            [
              ['INSERT', 1, []],
              ['SELECT', 1, [{ id, label: null }]],
              ['SELECT', 0, []],
              ['DELETE', 1, []],
            ],
          )
        }
      })
    })

    it('does not run what was sent together with a failed statement, behind it, and loses nothing by that', async () => {
      await using(database, 'write', async (connection) => {
        const behind = { text: "insert into thing values (20, 'behind')", values: [], name: 'c5' }
        const [before, bad, skipped] = await Promise.allSettled(
          connection.runTogether([plain('select 1 as one'), plain('select nothing from nowhere'), behind]),
        )
        assert.equal(before!.status, 'fulfilled')
        assert.ok(isRungError((bad as PromiseRejectedResult).reason, 'DATA_STATEMENT'))
        assert.equal(skipped!.status, 'rejected')
        assert.equal((await connection.run(plain('select from thing where id = 20'))).rowCount, 0)
        assert.equal((await connection.run(behind)).rowCount, 1)
      })
    })

    it('sends none of the statements that belong together when a value of one cannot be sent', async () => {
      const circular: Record<string, unknown> = {}
      circular.self = circular
      const bad = { text: 'select $1::json', values: [circular], name: undefined }
      await using(database, 'write', async (connection) => {
        assert.throws(() => connection.runTogether([plain("insert into thing values (30, 'c')"), bad]))
      })
      const { rowCount } = await using(database, 'read', (connection) =>
        connection.run(plain('select from thing where id = 30')),
      )
      assert.equal(rowCount, 0)
    })

    it('refuses to write on a connection for reading', async () => {
      await assert.rejects(
        using(database, 'read', (connection) => connection.run(plain("insert into thing values (99, 'no')"))),
        (error) => isRungError(error, 'DATA_READ_ONLY'),
      )
    })

    const refusals: [what: string, statement: string, code: string][] = [
      ['a taken key', "insert into thing values (1, 'again')", 'DATA_UNIQUE'],
      ['a value of the wrong form', "select 'abc'::int", 'DATA_VALUE'],
      ['wrong SQL', 'selec 1', 'DATA_STATEMENT'],
    ]
    for (const [what, statement, code] of refusals) {
      it(`names ${what} by its code and keeps the cause`, async () => {
        await assert.rejects(
          using(database, 'write', (connection) => connection.run(plain(statement))),
          (error) => isRungError(error) && error.code === code && error.cause instanceof Error,
        )
      })
    }

    it('waits for a free connection no longer than asked', async () => {
      const held = await Promise.all([database.connect(reading), database.connect(reading)])
      const { max, total, idle, waiting } = database.counts('read')
      assert.deepEqual([total - idle, waiting], [2, 0])
      assert.ok(max >= 2)
      await assert.rejects(database.connect({ ...reading, deadlineAt: performance.now() + 20 }), (error) =>
        isRungError(error, 'DATA_POOL_TIMEOUT'),
      )
      const next = database.connect(reading)
      for (const connection of held) connection.release()
      ;(await next).release()
    })

    it('keeps the pools of the targets apart', async () => {
      const held = await Promise.all([database.connect(reading), database.connect(reading)])
      for (const target of ['write', 'own', 'session'] as const) {
        await using(database, target, (connection) => connection.run(plain('select 1')))
      }
      for (const connection of held) connection.release()
    })

    it('cancels what a connection runs, and the connection stays good', async () => {
      await using(database, 'read', async (connection) => {
        const running = connection.run(plain('select pg_sleep(600)'))
        running.catch(() => {})
        await untilActive(database, 'pg_sleep(600)')
        await connection.cancel()
        await assert.rejects(running, (error) => isRungError(error, 'DATA_TIMEOUT'))
        assert.equal((await connection.run(plain('select 1'))).rowCount, 1)
      })
    })

    it('keeps a session lock of a session of its own, also between its transactions', async () => {
      const lock = (connection: Connection) => connection.run(plain('select pg_try_advisory_lock(4711) as locked'))
      await using(database, 'session', async (one) => {
        assert.equal((await lock(one)).rows[0]!.locked, true)
        for (let n = 0; n < 3; n += 1) await using(database, 'own', (other) => other.run(plain('select 1')))
        await using(database, 'session', async (other) => assert.equal((await lock(other)).rows[0]!.locked, false))
        await one.run(plain('select pg_advisory_unlock(4711)'))
      })
    })

    it('shows a reader all that was committed up to its position', async () => {
      for (let id = 200; id < 220; id += 1) {
        const committed = await using(database, 'write', (connection) =>
          Promise.all(
            connection.runTogether([
              { text: 'insert into thing values ($1, $2)', values: [id, 'new'], name: 'c6' },
              { text: `select ${placeSql('pg_current_wal_lsn()')} as place`, values: [], name: 'c7' },
            ]),
          ),
        )
        const before = parsePlace(String(committed[1]!.rows[0]!.place))!
        // The place that comes with the commit's own message is asked before it: one that covers the commit is asked after it.
        const place = await using(database, 'write', async (connection) => {
          const { rows } = await connection.run(plain(`select ${placeSql('pg_current_wal_lsn()')} as place`))
          return parsePlace(String(rows[0]!.place))!
        })
        assert.ok(place >= before)
        for (const atLeast of [place, 'all'] as const) {
          const connection = await database.connect({ ...reading, atLeast })
          const { rowCount, seen } = await connection.run(plain(`select from thing where id = ${id}`))
          connection.release()
          assert.equal(rowCount, 1)
          if (database.lags) assert.ok(seen !== undefined && seen >= place, 'and says that it has seen as much')
        }
      }
    })

    it('replaces a connection that broke', async () => {
      const [{ pid }] = await using(
        database,
        'write',
        async (connection) => (await connection.run(plain('select pg_backend_pid() as pid'))).rows as [{ pid: number }],
      )
      await using(database, 'own', (connection) =>
        connection.run({ text: 'select pg_terminate_backend($1)', values: [pid], name: undefined }),
      )
      // The pool may hand out the dead one once, and says so; the next is new.
      const attempt = () => using(database, 'write', (connection) => connection.run(plain('select 1')))
      const first = await attempt().catch((error: unknown) => error)
      if (first instanceof Error) assert.ok(isRungError(first, 'DATA_UNAVAILABLE'))
      assert.equal((await attempt()).rowCount, 1)
    })
  })
}

function plain(text: string) {
  return { text, values: [], name: undefined }
}

async function using<T>(database: Database, target: Target, fn: (connection: Connection) => Promise<T>): Promise<T> {
  const connection = await database.connect({ target, deadlineAt: forever })
  try {
    return await fn(connection)
  } finally {
    connection.release()
  }
}

/** Until the server itself says that it runs the statement. */
async function untilActive(database: Database, text: string): Promise<void> {
  for (;;) {
    const { rowCount } = await using(database, 'read', (connection) =>
      connection.run({
        text: `select 1 from pg_stat_activity where state = 'active' and pid <> pg_backend_pid() and query like '%' || $1 || '%'`,
        values: [text],
        name: undefined,
      }),
    )
    if (rowCount > 0) return
  }
}
