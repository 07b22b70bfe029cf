import assert from 'node:assert/strict'
import { after, before, beforeEach, describe, it } from 'node:test'
import { openProxy } from '../../../src/chaos/proxy.ts'
import { isRungError } from '../../../src/kernel/errors.ts'
import { type Place, parseLsn, placeAt } from '../../../src/kernel/position.ts'
import { runInScope, Scope } from '../../../src/kernel/scope.ts'
import { type ReadRouted, readRouted } from '../../../src/primitives/data/channels.ts'
import { clusterDatabase } from '../../../src/primitives/data/cluster.ts'
import type { Database } from '../../../src/primitives/data/contract.ts'
import { createData, type Data, type ReadOptions } from '../../../src/primitives/data/data.ts'
import { postgresDatabase, postgresServer } from '../../../src/primitives/data/postgres.ts'
import type { SqlTag } from '../../../src/primitives/data/sql.ts'
import { testLimits } from '../../support/data.ts'
import { openScratch, until, withScratch } from '../../support/process.ts'
import { openNode, readInSessions } from '../../support/session-reads.ts'

import { askOne, type Pair, type Replica, startCluster, startPair, untilReplicaReads } from '../../support/standby.ts'

describe('reads over several servers', () => {
  let pair: Pair
  let scratch: Awaited<ReturnType<typeof openScratch>>
  let database: Database
  let data: Data
  const routed: ReadRouted[] = []
  readRouted.subscribe((message) => void routed.push(message as ReadRouted))

  const serverOptions = { limits: testLimits, connectionsMax: { read: 5, write: 5 }, idleTimeoutMs: 60_000 }
  const open = (
    options: Partial<Pick<Pair, 'primary' | 'standby'>> & {
      gone?: Pair['primary']
      readersOfPrimary?: number
      lagMsMax?: number
    } = {},
  ) => {
    const server = (name: string, connection: Pair['primary']) => postgresServer({ ...serverOptions, name, connection })
    return clusterDatabase({
      name: 'main',
      servers: [
        server('postgres', options.primary ?? pair.primary),
        ...(options.gone ? [server('postgres-3', options.gone)] : []),
        server('postgres-2', options.standby ?? pair.standby),
      ],
      primaryReadsMax: options.readersOfPrimary ?? 2,
      lagMsMax: options.lagMsMax ?? 600_000,
    })
  }
  const session = (position?: Scope['position']) => {
    const scope = new Scope('request', 'test', 'test')
    if (position) scope.position = position
    return scope
  }
  const socketOf = ({ host, port }: Pair['primary']) => `${host}/.s.PGSQL.${port}`
  const served = () => routed.map(({ server, why }) => `${server} ${why}`)
  before(async () => {
    scratch = await openScratch()
    pair = await startPair(scratch.dir)
    database = open()
    data = createData(database).forModule('test')
    await data.pool.query('create table note (id serial primary key, text text)')
    await untilReplicaReads(database)
    // It may read before it has replayed the table.
    const read = () => data.read((sql) => sql`select from note`)
    await until(
      () =>
        read().then(
          () => true,
          () => false,
        ),
      'the replica has the table',
    )
  })
  beforeEach(() => {
    routed.length = 0
  })
  after(async () => {
    await pair.resume().catch(() => {})
    await database?.close()
    await pair?.stop()
    await scratch.end()
  })

  it('reads on a replica, and moves the position of the session to what it has shown', async () => {
    const scope = session()
    await runInScope(scope, () => data.read((sql) => sql`select count(*) from note`))
    assert.deepEqual(served(), ['postgres-2 replica'])
    assert.ok(scope.position.get('main')! > 0n)
  })

  it('shows a session its own write at once, wherever it reads', async () => {
    for (let n = 0; n < 50; n += 1) {
      const text = `own ${n}`
      const writer = session()
      await runInScope(writer, () => data.write((tx) => tx`insert into note (text) values (${text})`))
      const reader = session(writer.position)
      const rows = await runInScope(reader, () => data.read((sql) => sql`select from note where text = ${text}`))
      assert.equal(rows.length, 1)
      assert.ok(reader.position.get('main')! >= writer.position.get('main')!)
    }
  })

  it('keeps its promises where the primary has only its own address, and that of a lost server leads nowhere', async () => {
    const node = open({ gone: { ...pair.primary, host: '/nowhere' } })
    try {
      await untilReplicaReads(node)
      const own = createData(node).forModule('test')
      routed.length = 0
      for (let n = 0; n < 10; n += 1) {
        const text = `without one ${n}`
        const scope = session()
        await runInScope(scope, () => own.write((tx) => tx`insert into note (text) values (${text})`))
        const rows = await runInScope(scope, () => own.read((sql) => sql`select from note where text = ${text}`))
        assert.equal(rows.length, 1)
      }
      assert.ok(served().includes('postgres-2 replica'), served().join())
      assert.equal(node.servers().find(({ name }) => name === 'postgres-3')!.role, 'away')
    } finally {
      await node.close()
    }
  })

  it('goes to the primary while replay is paused, for those who have seen more', async () => {
    await pair.pause()
    const writer = session()
    await runInScope(writer, () => data.write((tx) => tx`insert into note (text) values ('paused')`))
    const find = (scope: Scope) =>
      runInScope(scope, () => data.read((sql) => sql`select from note where text = 'paused'`))
    assert.equal((await find(session(writer.position))).length, 1)
    assert.equal((await find(session())).length, 0, 'others may read the replica')
    assert.deepEqual(served(), ['postgres primary', 'postgres-2 replica'])
    const unknown = session()
    unknown.positionUnknown = true
    assert.equal((await find(unknown)).length, 1, 'where the position is not known')
    await pair.resume()
    routed.length = 0
    await until(async () => {
      assert.equal((await find(session(writer.position))).length, 1)
      return served().at(-1) === 'postgres-2 replica'
    }, 'the replica has caught up')
  })

  it('protects the primary: beyond its connections for readers a reader gets what it has declared, or a refusal', async () => {
    const small = open({ readersOfPrimary: 1 })
    const own = createData(small).forModule('test')
    try {
      await untilReplicaReads(small)
      await pair.pause()
      const writer = session()
      await runInScope(writer, () => own.write((tx) => tx`insert into note (text) values ('crowded')`))
      const find = (scope: Scope) =>
        runInScope(scope, () => own.read((sql) => sql`select from note where text = 'crowded'`))
      const held = await small.connect({ target: 'read', atLeast: 'all', deadlineAt: Number.POSITIVE_INFINITY })
      const tolerant = session(writer.position)
      tolerant.staleMsMax = 3_600_000
      assert.equal((await find(tolerant)).length, 0, 'a little stale, as declared')
      await assert.rejects(find(session(writer.position)), (error) => isRungError(error, 'DATA_BEHIND'))
      held.release()
      assert.equal((await find(session(writer.position))).length, 1)
    } finally {
      await pair.resume()
      await small.close()
    }
  })

  it('takes a replica that lags for too long out of the rotation, and back when it has caught up', async () => {
    const strict = open({ lagMsMax: 200 })
    const own = createData(strict).forModule('test')
    const read = () => own.read((sql) => sql`select 1`)
    try {
      await untilReplicaReads(strict)
      await pair.pause()
      await until(async () => {
        await own.write((tx) => tx`insert into note (text) values ('late')`)
        await read()
        return served().at(-1) === 'postgres primary'
      }, 'the replica is out of the rotation')
      await pair.resume()
      await untilReplicaReads(strict)
    } finally {
      await pair.resume()
      await strict.close()
    }
  })

  it('reads a database on the primary until the replica has it', async () => {
    await pair.pause()
    const admin = { ...pair.primary, user: 'rung', database: 'postgres' }
    await askOne(admin, 'create database fresh owner app')
    const at = { database: 'fresh' }
    const fresh = open({ primary: { ...pair.primary, ...at }, standby: { ...pair.standby, ...at } })
    const own = createData(fresh).forModule('test')
    const count = (options?: ReadOptions) => own.read((sql) => sql`select count(*)::int as count from note`, options)
    try {
      await own.pool.query('create table note (text text)')
      assert.deepEqual(await count(), [{ count: 0 }])
      assert.deepEqual(await count({ target: 'reports' }), [{ count: 0 }])
      assert.deepEqual(served(), ['postgres primary'])
      await pair.resume()
      await untilReplicaReads(fresh)
      assert.deepEqual(await count(), [{ count: 0 }])
      assert.equal(served().at(-1), 'postgres-2 replica')
    } finally {
      await pair.resume()
      await fresh.close()
      await askOne(admin, 'drop database fresh')
    }
  })

  it('ignores a position that is ahead of the primary', async () => {
    const place = (1n << 64n) | 0xffff_ffff_ffffn
    const rows = await runInScope(session(new Map([['main', place as Place]])), () =>
      data.read((sql) => sql`select 1 as one`),
    )
    assert.equal(rows.length, 1)
    assert.deepEqual(served(), [' absurd', 'postgres-2 replica'])
  })

  it('shows a session its own write also if it has seen what the log has lost since, as after a restore', async () => {
    const far = 0xffff_ffff_ffffn
    await pair.pause()
    try {
      for (const lost of [placeAt(0, far), placeAt(1, far)]) {
        const text = `after ${lost}`
        const scope = session(new Map([['main', lost]]))
        await runInScope(scope, () => data.write((tx) => tx`insert into note (text) values (${text})`))
        const read = () => data.read((sql) => sql`select text from note where text = ${text}`)
        for (let n = 0; n < 3; n += 1) assert.deepEqual(await runInScope(scope, read), [{ text }])
      }
    } finally {
      await pair.resume()
    }
  })

  it('refuses to guess about a position of a later timeline while a server does not answer', async () => {
    const proxy = await openProxy({ path: socketOf(pair.standby) })
    const node = open({ standby: { ...pair.standby, host: '127.0.0.1', port: proxy.port } })
    const own = createData(node).forModule('test')
    const read = () =>
      runInScope(session(new Map([['main', placeAt(2, parseLsn('0/1')!)]])), () => own.read((sql) => sql`select 1`))
    try {
      await untilReplicaReads(node)
      assert.equal((await read()).length, 1)
      proxy.close()
      await assert.rejects(read(), (error) => isRungError(error, 'DATA_BEHIND'))
    } finally {
      proxy.close()
      await node.close()
    }
  })

  it('notices that an address leads to a replica, where it has led to the primary', async () => {
    const proxy = await openProxy({ path: socketOf(pair.primary) })
    const at = { ...pair.primary, host: '127.0.0.1', port: proxy.port }
    const node = open({ primary: at })
    const own = createData(node).forModule('test')
    const alone = createData(postgresDatabase({ ...serverOptions, name: 'main', connection: at }))
    const moved = (error: unknown) => isRungError(error, 'DATA_UNAVAILABLE')
    const insert = (tx: SqlTag) => tx`insert into note (text) values ('moved')`
    const count = (sql: SqlTag) => sql`select count(*) from note`
    const fresh = () => {
      const scope = session()
      scope.positionUnknown = true
      return scope
    }
    try {
      await until(() => node.servers().some(({ inRotation }) => inRotation), 'the servers have answered')
      proxy.target = { path: socketOf(pair.standby) }
      await assert.rejects(
        runInScope(fresh(), () => own.read(count)),
        moved,
      )
      await assert.rejects(
        runInScope(session(), () => own.write(count)),
        moved,
      )
      await assert.rejects(own.write(insert), moved)
      await assert.rejects(alone.forModule('test').write(insert), moved)
      // None of these connections is used again.
      proxy.target = { path: socketOf(pair.primary) }
      await runInScope(fresh(), () => own.read(count))
      await runInScope(session(), () => own.write(count))
      await own.write(insert)
      await alone.forModule('test').write(insert)
    } finally {
      await node.close()
      for (const one of alone.databases) await one.close()
      proxy.close()
    }
  })

  it('refuses what writes, on whichever server it lands', async () => {
    const writing = [
      'insert into note (text) values (1)',
      'with gone as (delete from note returning 1) select count(*) from gone',
      'select * from note for update',
      "select nextval('note_id_seq')",
      '/* select */ update note set text = text',
    ]
    for (const server of ['postgres-2', 'postgres']) {
      if (server === 'postgres') await pair.pause()
      for (const text of writing) {
        const scope = session()
        if (server === 'postgres') scope.positionUnknown = true
        const query = { text, values: [], name: undefined }
        const connection = await database.connect({
          target: 'read',
          atLeast: scope.positionUnknown ? 'all' : undefined,
          deadlineAt: Number.POSITIVE_INFINITY,
        })
        await assert.rejects(connection.run(query), (error) => isRungError(error, 'DATA_READ_ONLY'), text)
        connection.release()
      }
    }
    await pair.resume()
  })

  it('runs a read again elsewhere when the replica cancels it for its replay, or its connection is lost', async () => {
    const killed = data.read(
      (sql) => sql`select pg_sleep(case when pg_is_in_recovery() then 600 else 0 end), 7 as seven`,
    )
    await pair.endReads('as seven')
    assert.equal((await killed)[0]!.seven, 7)
    assert.equal(served().at(-1), 'postgres primary')
  })

  it('gives reports connections of their own, which decide nothing about freshness', async () => {
    await pair.pause()
    const scope = session()
    await runInScope(scope, async () => {
      await data.write((tx) => tx`insert into note (text) values ('report')`)
      const before = scope.position
      const rows = await data.read((sql) => sql`select from note where text = 'report'`, { target: 'reports' })
      assert.equal(rows.length, 0)
      assert.equal(scope.position, before)
    })
    await pair.resume()
  })

  it('waits with a write until the primary shows what the session has seen on a replica', async () => {
    await pair.requireConfirmation(true)
    try {
      // The setting reaches sessions a moment later.
      const isWaiting = async () =>
        (await data.pool.query(`select from pg_stat_activity where wait_event = 'SyncRep'`)).rows.length > 0
      let slow: Promise<unknown> = Promise.resolve()
      await until(async () => {
        slow = data.pool.query(`insert into note (text) values ('unconfirmed')`)
        return Promise.race([slow.then(() => false), until(isWaiting, 'the commit waits')])
      }, 'a commit waits for a standby')
      const seen = session()
      const found = (scope: Scope, read: (typeof data)['read'] | (typeof data)['write']) =>
        runInScope(scope, () => (read as Data['read'])((sql) => sql`select from note where text = 'unconfirmed'`))
      const before = (await found(session(), data.write)).length
      await until(async () => (await found(seen, data.read)).length > before, 'the replica shows the commit')
      const hurried = session(seen.position)
      hurried.deadlineAt = performance.now() + 300
      await assert.rejects(found(hurried, data.write), (error) => isRungError(error, 'DATA_BEHIND'))
      const waiting = found(session(seen.position), data.write)
      await pair.requireConfirmation(false)
      assert.ok((await waiting).length > before)
      await slow
    } finally {
      await pair.requireConfirmation(false)
    }
  })

  it('does not report a commit as done when its wait for a replica was cancelled', async () => {
    await pair.requireConfirmation(true)
    try {
      const outcomes: unknown[] = []
      // The setting reaches sessions a moment later.
      const isCancelled = async () => {
        const { rows } = await data.pool.query(
          `select pg_cancel_backend(pid) from pg_stat_activity where wait_event = 'SyncRep' and query ilike 'commit%'`,
        )
        return rows.length > 0
      }
      await until(async () => {
        const write = data
          .write((tx) => tx`insert into note (text) values ('cancelled')`)
          .then(
            () => 'done',
            (error) => error,
          )
        write.then((outcome) => void outcomes.push(outcome))
        await Promise.race([write, until(isCancelled, 'a commit waits and is cancelled')])
        await write
        return outcomes.at(-1) !== 'done'
      }, 'a commit waits for a standby in vain')
      assert.ok(isRungError(outcomes.at(-1), 'DATA_OUTCOME_UNKNOWN'), String(outcomes.at(-1)))
    } finally {
      await pair.requireConfirmation(false)
    }
  })
})

it('the history shows it when sessions lose their position', async () => {
  await withScratch(async ({ dir }) => {
    const cluster = await startCluster(dir, 1, { applyDelayMs: 200 })
    const nodes = [openNode(cluster), openNode(cluster)]
    try {
      for (const node of nodes) await untilReplicaReads(node)
      const result = await readInSessions(nodes, { reads: 1_000, forgets: true })
      assert.match(result.stale.join('\n'), /read .* although it had written/)
    } finally {
      for (const node of nodes) await node.close()
      await cluster.stop()
    }
  })
})

it('sessions that go from node to node never read less than they have written or read', async () => {
  await withScratch(async ({ dir }) => {
    const cluster = await startCluster(dir, 2)
    const nodes = [openNode(cluster), openNode(cluster), openNode(cluster)]
    try {
      for (const node of nodes) await untilReplicaReads(node)
      const result = await readInSessions(nodes, { reads: 6_000 })
      assert.deepEqual(result.stale, [])
      assert.ok(result.writes > 300)
      assert.ok(result.routed['postgres-2 replica']! > 300, JSON.stringify(result.routed))
    } finally {
      for (const node of nodes) await node.close()
      await cluster.stop()
    }
  })
})

it('sessions stay right while replicas pause, freeze and die', async () => {
  await withScratch(async ({ dir }) => {
    const cluster = await startCluster(dir, 2)
    const [first, second] = cluster.replicas as [Replica, Replica]
    const nodes = [openNode(cluster), openNode(cluster), openNode(cluster)]
    const strikes = [first.pause, second.freeze, first.resume, second.thaw, first.kill, second.kill]
    const struck: Promise<unknown>[] = []
    try {
      for (const node of nodes) await untilReplicaReads(node)
      const onStep = (done: number) => {
        if (done % 2_000 === 0) struck.push(Promise.resolve(strikes[done / 2_000 - 1]?.()))
      }
      const result = await readInSessions(nodes, { reads: 14_000, onStep })
      await Promise.all(struck)
      assert.deepEqual(result.stale, [])
      assert.ok(result.writes > 500)
      assert.ok(result.routed['postgres-2 replica']! > 500, JSON.stringify(result.routed))
    } finally {
      await second.thaw()
      for (const node of nodes) await node.close()
      await cluster.stop()
    }
  })
})
