import assert from 'node:assert/strict'
import { after, afterEach, before, beforeEach, describe, it } from 'node:test'
import { type ErrorCode, isRungError, RungError } from '../../../src/kernel/errors.ts'
import { nowhere } from '../../../src/kernel/position.ts'
import { runInScope, Scope } from '../../../src/kernel/scope.ts'
import type { Database } from '../../../src/primitives/data/contract.ts'
import { createData, type Data, type DataRoot } from '../../../src/primitives/data/data.ts'
import type { SqlTag } from '../../../src/primitives/data/sql.ts'
import { openPostgres } from '../../support/data.ts'
import { type TestPostgres, testPostgres } from '../../support/postgres.ts'

let postgres: TestPostgres
let database: Database
let root: DataRoot
let data: Data

before(async () => {
  postgres = await testPostgres()
})
after(() => postgres.stop())
beforeEach(async () => {
  database = await openPostgres(postgres)
  root = createData(database)
  data = root.forModule('shop')
  await data.write((tx) => tx`create table item (id int primary key, n int not null default 0 check (n >= 0))`)
  await data.write((tx) => tx`insert into item (id) values (1), (2)`)
})
afterEach(() => database.close())

function coded(code: ErrorCode) {
  return (error: unknown) => isRungError(error, code)
}

async function numberOf(id: number): Promise<number | undefined> {
  const [row] = await data.read((sql) => sql<{ n: number }>`select n from item where id = ${id}`)
  return row?.n
}

/** A promise and its resolver: a signal between two transactions. */
function signal() {
  return Promise.withResolvers<void>()
}

describe('read', () => {
  it('refuses to write', async () => {
    await assert.rejects(
      data.read((sql) => sql`update item set n = 5`),
      coded('DATA_READ_ONLY'),
    )
  })

  it('sends statements of one moment together, on one connection', async () => {
    const pids = await data.read(async (sql) => {
      const asked = Array.from({ length: 5 }, () => sql<{ pid: number }>`select pg_backend_pid() as pid`)
      return (await Promise.all(asked)).map(([row]) => row!.pid)
    })
    assert.equal(new Set(pids).size, 1)
  })

  it('holds no connection between statements, so that reads within reads cannot starve each other', async () => {
    const depth = 20 // four times the pool
    const read = (left: number): Promise<number> =>
      data.read(async (sql) => {
        await sql`select 1`
        return left === 0 ? 0 : 1 + (await read(left - 1))
      })
    const all = await Promise.all(Array.from({ length: depth }, () => read(depth)))
    assert.deepEqual(new Set(all), new Set([depth]))
  })

  it('is repeated once where its connection is lost, together with those beside it', async () => {
    const holder = await database.connect({ target: 'session', deadlineAt: Number.POSITIVE_INFINITY })
    const onHolder = (text: string) => holder.run({ text, values: [], name: undefined })
    await onHolder('select pg_advisory_lock(1)')
    const waiting = `from pg_stat_activity where wait_event = 'advisory'`
    const lose = async () => {
      while ((await onHolder(`select pid ${waiting}`)).rowCount === 0);
      await onHolder(`select pg_terminate_backend(pid) ${waiting}`)
    }
    const ask = () =>
      data.read((sql) => Promise.all([sql`select pg_advisory_xact_lock(1)`, sql<{ n: number }>`select 7 as n`]))
    const asked = ask()
    await lose()
    await onHolder('select pg_advisory_unlock(1)')
    assert.deepEqual((await asked)[1], [{ n: 7 }])
    await onHolder('select pg_advisory_lock(1)')
    const lost = assert.rejects(ask(), coded('DATA_UNAVAILABLE'))
    await lose()
    await lose()
    await lost
    holder.release(true)
  })

  it('a bigint is a number, and an error where it would lose digits', async () => {
    const [row] = await data.read((sql) => sql<{ n: number }>`select 9007199254740991::bigint as n`)
    assert.equal(row!.n, Number.MAX_SAFE_INTEGER)
    await assert.rejects(
      data.read((sql) => sql`select 9007199254740993::bigint as n`),
      /does not fit/,
    )
  })

  it('a NUL in a text is a wrong value, not a fault', async () => {
    await assert.rejects(
      data.read((sql) => sql`select ${'a\0b'}::text`),
      coded('DATA_VALUE'),
    )
  })
})

describe('write', () => {
  it('commits all of it', async () => {
    await data.write(async (tx) => {
      await tx`update item set n = 1 where id = 1`
      await tx`update item set n = 2 where id = 2`
    })
    assert.deepEqual([await numberOf(1), await numberOf(2)], [1, 2])
  })

  it('rolls all of it back when the function throws', async () => {
    const failure = new Error('no')
    await assert.rejects(
      data.write(async (tx) => {
        await tx`update item set n = 1 where id = 1`
        throw failure
      }),
      failure,
    )
    assert.equal(await numberOf(1), 0)
  })

  it('several statements in one text of a library are in the transaction', async () => {
    await assert.rejects(
      data.write(async () => {
        await data.pool.query('update item set n = 1 where id = 1; update item set n = 2 where id = 2')
        throw new Error('no')
      }),
      /no/,
    )
    assert.deepEqual([await numberOf(1), await numberOf(2)], [0, 0])
  })

  it('a first statement that could not be sent leaves those behind it in the transaction', async () => {
    const circular: Record<string, unknown> = {}
    circular.self = circular
    await assert.rejects(
      data.write(async (tx) => {
        await assert.rejects(tx`select ${circular}::json`.run())
        await tx`update item set n = 1 where id = 1`
        throw new Error('no')
      }),
      /no/,
    )
    assert.equal(await numberOf(1), 0)
  })

  it('a nested write joins, and falls with the outer one', async () => {
    await assert.rejects(
      data.write(async () => {
        await data.write((tx) => tx`update item set n = 7 where id = 1`)
        const [seen] = await data.read((sql) => sql<{ n: number }>`select n from item where id = 1`)
        assert.equal(seen!.n, 7) // and a read inside sees it
        throw new Error('no')
      }),
    )
    assert.equal(await numberOf(1), 0)
  })

  it('a nested write cannot ask for more isolation than there is', async () => {
    await assert.rejects(
      data.write(() => data.write((tx) => tx`select 1`, { isolation: 'serializable' })),
      coded('DATA_OUTSIDE_TRANSACTION'),
    )
  })

  it('an outer read cannot be used in it: it would not see what was written', async () => {
    await assert.rejects(
      data.read((outer) =>
        data.write(async (tx) => {
          await tx`update item set n = 7 where id = 1`
          await outer`select n from item where id = 1`
        }),
      ),
      coded('DATA_OUTSIDE_TRANSACTION'),
    )
    assert.equal(await numberOf(1), 0)
  })

  it('a statement after its end is an error', async () => {
    let kept: SqlTag | undefined
    await data.write(async (tx) => {
      kept = tx
      await tx`select 1`
    })
    await assert.rejects(async () => await kept!`update item set n = 9`, coded('DATA_TRANSACTION_ENDED'))
  })

  it('a statement that nobody awaited is an error, and nothing is committed', async () => {
    await assert.rejects(
      data.write(async (tx) => {
        await tx`update item set n = 3 where id = 1`
        tx`update item set n = 4 where id = 2`
      }),
      coded('DATA_STATEMENT_UNUSED'),
    )
    assert.equal(await numberOf(1), 0)
  })

  it('a condition that was written and not needed is no forgotten statement', async () => {
    await data.write(async (tx) => {
      const condition = tx`id = 1`
      await tx`update item set n = 3`
      void condition
    })
    assert.equal(await numberOf(2), 3)
  })

  it('that was cancelled before its commit does not happen', async () => {
    const scope = new Scope('request', 'c1', 'POST /late')
    await assert.rejects(
      runInScope(scope, () =>
        data.write(async (tx) => {
          await tx`update item set n = 6 where id = 1`
          scope.cancel(new RungError('HTTP_TIMEOUT', 'late'))
        }),
      ),
      coded('HTTP_TIMEOUT'),
    )
    assert.equal(await numberOf(1), 0)
  })

  it('a swallowed failure does not become half a commit', async () => {
    await assert.rejects(
      data.write(async (tx) => {
        await tx`update item set n = 3 where id = 1`
        await tx`select nothing`.then(undefined, () => {})
      }),
      coded('DATA_STATEMENT'),
    )
    assert.equal(await numberOf(1), 0)
  })

  it('another module is not let into the transaction', async () => {
    const other = root.forModule('billing')
    for (const enter of [() => other.read((sql) => sql`select 1`), () => other.write((tx) => tx`select 1`)]) {
      await assert.rejects(data.write(enter), coded('CALL_IN_TRANSACTION'))
    }
  })

  it('that does nothing takes no connection', async () => {
    assert.equal(await data.write(async () => 5), 5)
    assert.equal(database.counts('write').total, 1) // the one of the set-up
  })

  const refusals: [ErrorCode, string, (tx: SqlTag) => PromiseLike<unknown>][] = [
    ['DATA_UNIQUE', 'item_pkey', (tx) => tx`insert into item (id) values (1)`],
    ['DATA_CHECK', 'item_n_check', (tx) => tx`update item set n = -1`],
  ]
  for (const [code, constraint, statement] of refusals) {
    it(`${code} names the constraint`, async () => {
      await assert.rejects(
        data.write(statement),
        (error) => isRungError(error, code) && error.facts.constraint === constraint,
      )
    })
  }
})

describe('collisions', () => {
  /** Two transactions read both rows and then each writes the other's: one of them must run again. */
  async function skew(retries: number): Promise<{ runs: number; outcomes: PromiseSettledResult<void>[] }> {
    let runs = 0
    const bothHaveRead = [signal(), signal()]
    const run = (mine: number) =>
      data.write(
        async (tx) => {
          runs += 1
          await tx`select sum(n) from item`
          bothHaveRead[mine]!.resolve()
          await Promise.all(bothHaveRead.map(({ promise }) => promise))
          await tx`update item set n = n + 1 where id = ${mine + 1}`
        },
        { isolation: 'serializable', retries },
      )
    const outcomes = await Promise.allSettled([run(0), run(1)])
    return { runs, outcomes }
  }

  it('a serialisation failure runs the function again', async () => {
    const { runs, outcomes } = await skew(5)
    assert.deepEqual(
      outcomes.map(({ status }) => status),
      ['fulfilled', 'fulfilled'],
    )
    assert.ok(runs > 2, `${runs} runs`)
    assert.deepEqual([await numberOf(1), await numberOf(2)], [1, 1])
  })

  it('and no more often than asked', async () => {
    const { runs, outcomes } = await skew(0)
    const failed = outcomes.filter(({ status }) => status === 'rejected') as PromiseRejectedResult[]
    assert.equal(runs, 2)
    assert.equal(failed.length, 1)
    assert.ok(isRungError(failed[0]!.reason, 'DATA_RETRIES_EXHAUSTED'))
  })

  it('a deadlock is resolved by running one of them again', async () => {
    const bothHold = [signal(), signal()]
    const run = (first: number, second: number) =>
      data.write(async (tx) => {
        await tx`update item set n = n + 1 where id = ${first}`
        bothHold[first - 1]!.resolve()
        await Promise.all(bothHold.map(({ promise }) => promise))
        await tx`update item set n = n + 1 where id = ${second}`
      })
    await Promise.all([run(1, 2), run(2, 1)])
    assert.deepEqual([await numberOf(1), await numberOf(2)], [2, 2])
  })
})

describe('limits', () => {
  it('a statement over its time is ended by the server', async () => {
    const limits = { statementTimeoutMs: 50, lockTimeoutMs: 30_000, idleInTransactionTimeoutMs: 30_000 }
    const hurried = await openPostgres(postgres, { limits })
    await assert.rejects(
      createData(hurried)
        .forModule('x')
        .read((sql) => sql`select pg_sleep(600)`),
      coded('DATA_TIMEOUT'),
    )
    await hurried.close()
  })

  it('a lock is not waited for longer than its limit', async () => {
    const limits = { statementTimeoutMs: 60_000, lockTimeoutMs: 50, idleInTransactionTimeoutMs: 30_000 }
    const hurried = await openPostgres(postgres, { limits })
    const mine = createData(hurried).forModule('x')
    await mine.write((tx) => tx`create table lockable (id int primary key)`)
    await mine.write((tx) => tx`insert into lockable values (1)`)
    const held = signal()
    const release = signal()
    const holder = mine.write(async (tx) => {
      await tx`select * from lockable for update`
      held.resolve()
      await release.promise
    })
    await held.promise
    await assert.rejects(
      mine.write((tx) => tx`select * from lockable for update`),
      coded('DATA_LOCK_TIMEOUT'),
    )
    release.resolve()
    await holder
    await hurried.close()
  })

  it('a transaction that idles too long is ended', async () => {
    const limits = { statementTimeoutMs: 60_000, lockTimeoutMs: 30_000, idleInTransactionTimeoutMs: 50 }
    const hurried = await openPostgres(postgres, { limits })
    const mine = createData(hurried).forModule('x')
    let pid = 0
    await assert.rejects(
      mine.write(async (tx) => {
        const [row] = await tx<{ pid: number }>`select pg_backend_pid() as pid`
        pid = row!.pid
        // Until the server has ended the session.
        while ((await data.read((sql) => sql`select 1 from pg_stat_activity where pid = ${pid}`)).length > 0);
        await data.read((sql) => sql`select 1`) // what the server said before it went has been read by then
        await tx`select 1`
      }),
      (error) => isRungError(error, 'DATA_TIMEOUT') && /idle for too long/.test(error.message),
    )
    await hurried.close()
  })

  it('a transaction that idles too long before its commit is known not to have happened', async () => {
    const limits = { statementTimeoutMs: 60_000, lockTimeoutMs: 30_000, idleInTransactionTimeoutMs: 50 }
    const hurried = await openPostgres(postgres, { limits })
    const mine = createData(hurried).forModule('x')
    await assert.rejects(
      mine.write(async (tx) => {
        const [row] = await tx<{ pid: number }>`select pg_backend_pid() as pid`
        while ((await data.read((sql) => sql`select 1 from pg_stat_activity where pid = ${row!.pid}`)).length > 0);
        await data.read((sql) => sql`select 1`) // what the server said before it went has been read by then
      }),
      (error) => isRungError(error, 'DATA_TIMEOUT') && /idle for too long/.test(error.message),
    )
    await hurried.close()
  })

  it('a cancelled scope ends its statement on the server, and the connection stays good', async () => {
    const scope = new Scope('request', 'r1', 'GET /slow')
    const gone = new RungError('HTTP_CLIENT_GONE', 'gone')
    const running = runInScope(scope, () => data.read((sql) => sql`select pg_sleep(600), 'find-me'`))
    running.catch(() => {})
    const active = () =>
      data.read(
        (sql) =>
          sql`select 1 from pg_stat_activity where state = 'active' and pid <> pg_backend_pid() and query like '%find-me%'`,
      )
    while ((await active()).length === 0);
    scope.cancel(gone)
    await assert.rejects(running, gone)
    assert.equal((await active()).length, 0)
    assert.equal(await numberOf(1), 0)
  })

  it('a scope that was cancelled starts nothing', async () => {
    const scope = new Scope('request', 'r2', 'GET /late')
    scope.cancel(new RungError('HTTP_TIMEOUT', 'late'))
    await assert.rejects(
      runInScope(scope, () => data.read((sql) => sql`select 1`)),
      coded('HTTP_TIMEOUT'),
    )
    await assert.rejects(
      runInScope(scope, () => data.write((tx) => tx`update item set n = 1`)),
      coded('HTTP_TIMEOUT'),
    )
  })

  it('a cancelled transaction is rolled back', async () => {
    const scope = new Scope('request', 'r3', 'POST /slow')
    const started = signal()
    const running = runInScope(scope, () =>
      data.write(async (tx) => {
        await tx`update item set n = 5 where id = 1`
        started.resolve()
        await tx`select pg_sleep(600)`
      }),
    )
    running.catch(() => {})
    await started.promise
    scope.cancel(new RungError('HTTP_TIMEOUT', 'late'))
    await assert.rejects(running, coded('HTTP_TIMEOUT'))
    assert.equal(await numberOf(1), 0)
  })
})

describe('connections', () => {
  it('are not kept by a statement whose value could not be sent', async () => {
    const statement = (value: unknown) => data.read((sql) => sql<{ v: unknown }>`select ${value}::jsonb as v`)
    const circle: { self?: unknown } = {}
    circle.self = circle
    for (let n = 0; n < 5; n += 1) await assert.rejects(statement(circle))
    for (let n = 0; n < 5; n += 1) assert.deepEqual((await statement({ n }))[0]!.v, { n })
  })

  it('are not handed on inside a transaction that a library left open', async () => {
    const client = await data.pool.connect()
    await client.query('begin')
    await client.query('update item set n = 8 where id = 1')
    client.release()
    await data.pool.query('update item set n = 9 where id = 2')
    assert.deepEqual([await numberOf(1), await numberOf(2)], [0, 9])
  })

  it('are not kept by a value that could not be read', async () => {
    const pids = async () => (await data.read((sql) => sql<{ pid: number }>`select pg_backend_pid() as pid`))[0]!.pid
    const before = await pids()
    await assert.rejects(
      data.read((sql) => sql`select 9007199254740993 as n`),
      /Select it as text/,
    )
    assert.equal(await pids(), before)
  })
})

describe('a table that is changed under prepared statements', () => {
  const warm = (fn: () => Promise<unknown>) => Promise.all(Array.from({ length: 5 }, fn))
  const change = (text: string) => data.pool.query(text)

  it('is read again on a fresh plan', async () => {
    const all = () => data.read((sql) => sql`select * from item where id = 1`)
    await warm(all)
    await change('alter table item add column label text')
    const answers = await Promise.all(Array.from({ length: 20 }, all))
    for (const [row] of answers) assert.deepEqual(row, { id: 1, n: 0, label: null })
    await change('alter table item alter column label type int using 7')
    for (const [row] of await Promise.all(Array.from({ length: 20 }, all))) {
      assert.deepEqual(row, { id: 1, n: 0, label: 7 })
    }
  })

  it('is read again by statements that were sent together', async () => {
    const both = () =>
      data.read((sql) =>
        Promise.all([1, 2, 1].map((id) => sql<{ id: number }>`select * from item where id = ${id}`.first())),
      )
    await both()
    await change('alter table item add column label text')
    const rows = await both()
    assert.deepEqual(
      rows.map((row) => [row!.id, 'label' in row!]),
      [
        [1, true],
        [2, true],
        [1, true],
      ],
    )
  })

  it('is read again where a parameter has another type now', async () => {
    const find = () => data.read((sql) => sql<{ id: number }>`select id from item where n = ${'0'} order by id`)
    await warm(find)
    await change('alter table item drop constraint item_n_check, alter column n type text')
    for (const rows of await warm(find)) assert.equal((rows as unknown[]).length, 2)
  })

  const first = (tx: SqlTag) => tx`select * from item where id = 1`
  const second = async (tx: SqlTag) => {
    await tx`update item set n = n + 1 where id = 1`
    return await tx`select * from item where id = 1`
  }
  for (const [where, work, retries] of [
    ['first', first, undefined],
    ['first', first, 0],
    ['second', second, undefined],
  ] as const) {
    it(`is written again where the ${where} statement finds it (retries: ${retries})`, async () => {
      const write = () => data.write(async (tx) => await work(tx), retries === undefined ? {} : { retries })
      await warm(write)
      const n = await numberOf(1)
      await change('alter table item add column label text')
      for (const rows of (await warm(write)) as Record<string, unknown>[][]) assert.equal(rows[0]!.label, null)
      assert.equal(await numberOf(1), work === first ? n : n! + 5)
    })
  }

  it('is read where a session was made to forget what it had prepared', async () => {
    const small = await openPostgres(postgres, { connectionsMax: { read: 1, write: 1 } })
    const mine = createData(small).forModule('x')
    const one = () => mine.write((tx) => tx`select 1 as n`)
    await one()
    await mine.pool.query('deallocate all')
    assert.deepEqual(await one(), [{ n: 1 }])
    await small.close()
  })

  it('fails with what Postgres says, and with its hint', async () => {
    const hint =
      /column "totl" does not exist \(SQLSTATE 42703\)\. Perhaps you meant to reference the column "t\.total"\.$/
    await assert.rejects(
      data.read((sql) => sql`select totl from (select 1 as total) t`),
      (error) => isRungError(error, 'DATA_STATEMENT') && hint.test(error.message),
    )
  })

  it('still fails where the statement is wrong now', async () => {
    const find = () => data.read((sql) => sql`select n from item where id = 1`)
    await find()
    await change('alter table item drop column n')
    await assert.rejects(find(), coded('DATA_STATEMENT'))
  })
})

describe('what no connection can carry', () => {
  const pids = async () => {
    const { rows } = await data.pool.query('select pid from pg_stat_activity where datname = current_database()')
    return (rows as { pid: number }[]).map(({ pid }) => pid)
  }

  for (const [what, refused] of [
    [
      'more parameters than Postgres counts',
      (tag: SqlTag) => tag`select 1 where 1 in (${tag.join(Array.from({ length: 70_000 }, (_, n) => n))})`,
    ],
    ['more bytes than Postgres takes', (tag: SqlTag) => tag`select ${tag.join(Array(5).fill(Buffer.alloc(2 ** 28)))}`],
    ['COPY from a client', (tag: SqlTag) => tag`copy item from stdin`],
    ['COPY to a client', (tag: SqlTag) => tag`copy item to stdout`],
  ] as const) {
    it(`is refused with a clear word and harms nothing: ${what}`, async () => {
      await numberOf(1)
      const before = await pids()
      const clear = (error: unknown) => isRungError(error) && /parameters|larger than|COPY/.test(error.message)
      if (what !== 'COPY from a client')
        await assert.rejects(
          data.read(async (sql) => await refused(sql)),
          clear,
        )
      await assert.rejects(
        data.write(async (tx) => await refused(tx)),
        clear,
      )
      await data.write(async (tx) => {
        await tx`update item set n = 3 where id = 1`
      })
      assert.equal(await numberOf(1), 3)
      const after = await pids()
      assert.deepEqual(
        before.filter((pid) => !after.includes(pid)),
        [],
        'no connection was broken',
      )
      // Under load the pool may open one for the second write, before it has the first one's back.
      assert.ok(after.length <= before.length + 1, String(after))
    })
  }

  it('is refused on the pool too', async () => {
    for (const text of ['copy item from stdin', 'copy item to stdout', 'select 1; copy item from stdin']) {
      await assert.rejects(
        data.pool.query(text),
        (error) => isRungError(error, 'DATA_STATEMENT') && /COPY/.test(error.message),
      )
    }
    assert.equal((await data.pool.query('select 1')).rowCount, 1)
  })

  it('says that parameters and statement do not fit each other', async () => {
    await assert.rejects(data.pool.query('select $1::int, $2::int', [1]), coded('DATA_STATEMENT'))
  })
})

describe('position', () => {
  it('moves forward with a commit, and not with a read', async () => {
    const scope = new Scope('request', 'p1', 'POST /item')
    await runInScope(scope, async () => {
      await numberOf(1)
      assert.equal(scope.position, nowhere)
      await data.write((tx) => tx`update item set n = n + 1 where id = 1`)
      const first = scope.position.get('main')!
      await data.pool.query('update item set n = n + 1 where id = 1')
      const second = scope.position.get('main')!
      assert.ok(second > first && first > 0n)
      await data.pool.query('select 1')
      assert.equal(scope.position.get('main'), second)
    })
  })
})
