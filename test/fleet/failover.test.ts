import assert from 'node:assert/strict'
import { rename } from 'node:fs/promises'
import { test } from 'node:test'
import { connectOnce } from '../../src/engines/postgres/client.ts'
import { startEmbedded } from '../../src/engines/postgres/embedded.ts'
import { memberFiles, readPrimacy, writePrimacy } from '../../src/engines/postgres/members.ts'
import { isRungError } from '../../src/kernel/errors.ts'
import { parseLsn, placeAt } from '../../src/kernel/position.ts'
import { runInScope, Scope } from '../../src/kernel/scope.ts'
import { createData } from '../../src/primitives/data/data.ts'
import { postgresDatabase } from '../../src/primitives/data/postgres.ts'
import { testLimits } from '../support/data.ts'
import { type Members, startMembers } from '../support/members.ts'
import { withTempDir } from '../support/postgres.ts'
import { sendTo, until } from '../support/process.ts'
import { openNodeOn, readInSessions } from '../support/session-reads.ts'
import { askOne, untilReplicaReads } from '../support/standby.ts'

async function withMembers(count: number, body: (members: Members, dir: string) => Promise<void>): Promise<void> {
  await withTempDir(async (dir) => {
    const members = await startMembers(dir, { count })
    try {
      await askOne(members.connection(await members.primary()), 'create table notes (id int primary key)')
      await body(members, dir)
    } finally {
      await members.stop()
    }
  })
}

/** Writes on whichever server is the primary, until it is ended, and keeps what was acknowledged. */
function startWriter(members: Members) {
  const acknowledged = new Set<number>()
  let over = false
  async function write(): Promise<void> {
    for (let id = 0; !over; ) {
      try {
        const client = await connectOnce(members.connection(await members.primary()))
        try {
          while (!over) {
            id += 1
            await client.query(`insert into notes values (${id})`)
            acknowledged.add(id)
          }
        } finally {
          client.end().catch(() => {})
        }
      } catch {
        id += 1 // it may have happened or not
      }
    }
  }
  const done = write()
  return {
    acknowledged,
    async end() {
      over = true
      await done
    },
  }
}

async function missingIn(members: Members, acknowledged: ReadonlySet<number>): Promise<number[]> {
  const client = await connectOnce(members.connection(await members.primary()))
  const { rows } = await client.query('select id from notes').finally(() => client.end())
  const found = new Set(rows.map(({ id }) => id as number))
  return [...acknowledged].filter((id) => !found.has(id))
}

test('a primary that dies, freezes, or loses its postmaster is replaced, and no acknowledged commit is lost', async () => {
  await withMembers(3, async (members, dir) => {
    const writer = startWriter(members)
    const ways: Record<string, (pids: number[], postmaster: number) => void> = {
      dies(pids) {
        for (const pid of pids) sendTo(pid, 'SIGKILL')
      },
      freezes(pids) {
        for (const pid of pids) sendTo(pid, 'SIGSTOP')
      },
      'loses its postmaster'(_, postmaster) {
        process.kill(postmaster, 'SIGKILL')
      },
    }
    /** As with a disk that goes away: nothing can be written beside its data. */
    async function losesItsFolder(name: string, pids: number[]): Promise<void> {
      const { data } = memberFiles(dir, name)
      await rename(data, `${data}.away`)
      for (const pid of pids) sendTo(pid, 'SIGKILL')
    }
    for (const [way, harm] of [...Object.entries(ways), ['loses its folder', undefined] as const]) {
      await members.untilSynchronous()
      const enough = writer.acknowledged.size + 20
      await until(() => writer.acknowledged.size >= enough, 'commits are acknowledged')
      const before = await members.primary()
      const pids = await members.processes(before)
      if (harm) harm(pids, members.member(before).pid()!)
      else await losesItsFolder(before, pids)
      if (way === 'freezes') members.member(before).kill() // as its supervisor does
      await until(
        async () => (await members.primary()) !== before,
        () => `${way}: ${members.notes.join('; ')}`,
      )
      const more = writer.acknowledged.size + 20
      await until(
        () => writer.acknowledged.size >= more,
        () => `writes go on: ${members.notes.join('; ')}`,
      )
      for (const pid of pids) assert.ok(!(await members.processes(before)).includes(pid), `${pid} has ended`)
    }
    await members.untilSynchronous() // the old ones are back as replicas
    await writer.end()
    assert.deepEqual(await missingIn(members, writer.acknowledged), [])
    await members.stop()

    // The folder of the primary is the first one again, also for a start without replicas.
    const alone = await startEmbedded({ root: dir, connectionsMax: 20, throwaway: true })
    try {
      const count = await askOne(alone.connection, 'select count(*)::int from notes')
      assert.ok(Number(count) >= writer.acknowledged.size)
      await askOne(alone.connection, 'insert into notes values (-1)') // waits for no replica
    } finally {
      await alone.stop()
    }
  })
})

test('a replica that is being removed does not take the place of a lost primary, and a primary is not removed', async () => {
  await withMembers(3, async (members) => {
    const writer = startWriter(members)
    const lose = async () => {
      await members.untilSynchronous()
      for (const pid of await members.processes('postgres')) sendTo(pid, 'SIGKILL')
    }
    await members.setLeaving(['postgres-2', 'postgres-3'])
    await lose()
    await until(
      () => members.notes.some((note) => /^postgres is started again \(.*\): postgres-\d is being removed$/.test(note)),
      () => members.notes.join('; '),
    )
    const enough = writer.acknowledged.size + 20
    await until(() => writer.acknowledged.size >= enough, 'writes go on')
    assert.equal(await members.primary(), 'postgres')

    await members.setLeaving([])
    await lose()
    await until(async () => (await members.primary()) !== 'postgres', 'it is replaced')
    const primary = await members.primary()
    await assert.rejects(members.setLeaving([primary]), (error) => isRungError(error, 'COMMAND_INVALID'))
    await members.untilSynchronous()
    await writer.end()
    assert.deepEqual(await missingIn(members, writer.acknowledged), [])

    // As in a process that knows one address only.
    const alone = postgresDatabase({
      name: 'main',
      connection: members.connection('postgres'),
      limits: testLimits,
      connectionsMax: { read: 1, write: 1 },
      idleTimeoutMs: 60_000,
    })
    try {
      for (const target of ['write', 'own', 'session'] as const) {
        const connection = await alone.connect({ target, deadlineAt: Number.POSITIVE_INFINITY })
        const write = connection.run({ text: 'insert into notes values (-1)', values: [], name: undefined })
        await assert.rejects(write, (error) => isRungError(error, 'DATA_UNAVAILABLE'), target)
        connection.release()
      }
    } finally {
      await alone.close()
    }
  })
})

test('sessions see what they have written and read, also when the primary is lost', async () => {
  await withMembers(3, async (members) => {
    const nodes = Array.from({ length: 3 }, () => openNodeOn(members.names.map((name) => members.connection(name))))
    const lose = async () => {
      await members.untilSynchronous()
      const before = await members.primary()
      for (const pid of await members.processes(before)) sendTo(pid, 'SIGKILL')
      await until(
        async () => (await members.primary()) !== before,
        () => members.notes.join('; '),
      )
    }
    let [losses, losing] = [0, Promise.resolve()]
    const loseNext = () => {
      losing = losing.then(lose)
      losses += 1
    }
    try {
      for (const node of nodes) await untilReplicaReads(node)
      const onStep = (done: number) => done % 5_000 === 0 && done < 20_000 && loseNext()
      const result = await readInSessions(nodes, { reads: 20_000, losesPrimary: true, onStep })
      await losing
      assert.equal(losses, 3)
      assert.deepEqual(result.stale, [])
      assert.ok(result.writes > 800, JSON.stringify(result))
    } finally {
      for (const node of nodes) await node.close()
    }
  })
})

test('what a session has seen of a later timeline than its node knew is not missing where it reads next', async () => {
  await withMembers(3, async (members) => {
    await members.untilSynchronous()
    const first = await members.primary()
    for (const pid of await members.processes(first)) sendTo(pid, 'SIGKILL')
    await until(async () => (await members.primary()) !== first, 'it is replaced')
    const primary = await members.primary()
    await members.untilSynchronous()
    const late = members.names.find((name) => name !== primary && name !== first)!
    await askOne(members.connection(primary), 'insert into notes values (1)')
    const node = openNodeOn([members.connection(primary), members.connection(late)])
    const paused = members.admin(late)
    try {
      await untilReplicaReads(node)
      await until(
        async () => (await askOne(members.connection(late), 'select count(*)::int from notes')) === 1,
        'row 1',
      )
      await askOne(paused, 'select pg_wal_replay_pause()')
      await askOne(members.connection(primary), 'insert into notes values (2)')
      // As from a replica of which the node has not heard yet that it follows the new timeline.
      const lsn = parseLsn(String(await askOne(members.connection(primary), 'select pg_current_wal_lsn()::text')))!
      const scope = new Scope('request', 'test', 'test')
      scope.position = new Map([['main', placeAt(1, lsn)]])
      const data = createData(node).forModule('notes')
      const rows = await runInScope(scope, () => data.read((sql) => sql`select id from public.notes order by id`))
      assert.deepEqual(rows, [{ id: 1 }, { id: 2 }])
    } finally {
      await askOne(paused, 'select pg_wal_replay_resume()')
      await node.close()
    }
  })
})

test('a failover that was interrupted is completed by the next start; a record that is out of date is refused', async () => {
  await withTempDir(async (dir) => {
    let members = await startMembers(dir, { count: 3 })
    await members.untilSynchronous()
    for (const pid of await members.processes('postgres')) sendTo(pid, 'SIGKILL')
    await until(async () => (await members.primary()) !== 'postgres', 'it is replaced')
    await members.untilSynchronous()
    const old = await members.primary()
    const successor = members.names.find((name) => name !== 'postgres' && name !== old)!
    await askOne(members.connection(old), 'create table kept as select 1 as id')
    await members.stop()
    const { superseded } = await readPrimacy(dir)

    // It names a server that is behind, or was: nothing may be promoted, and nothing copied over the primary.
    await writePrimacy(dir, { primary: successor, synchronous: [], superseded })
    await assert.rejects(startMembers(dir, { count: 3 }), (error) => isRungError(error, 'DATA_DIR_PRIMARY'))

    // As after a crash between the record and the promotion.
    await writePrimacy(dir, { primary: successor, synchronous: [], superseded: [...superseded, old] })
    members = await startMembers(dir, { count: 3 })
    try {
      await members.untilSynchronous()
      assert.equal(await askOne(members.connection(await members.primary()), 'select id from kept'), 1)
    } finally {
      await members.stop()
    }
  })
})
