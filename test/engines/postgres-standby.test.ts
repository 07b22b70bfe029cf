import assert from 'node:assert/strict'
import { fork } from 'node:child_process'
import { once } from 'node:events'
import { cp, open, readdir, rm, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { connectOnce } from '../../src/engines/postgres/client.ts'
import { startEmbedded } from '../../src/engines/postgres/embedded.ts'
import { dropOtherSlots, releaseRows } from '../../src/engines/postgres/slots.ts'
import {
  hasDiverged,
  type PrimaryPlace,
  removeStandby,
  type StandbyOptions,
  whatIsWrong,
} from '../../src/engines/postgres/standby.ts'
import { withTempDir } from '../support/postgres.ts'
import { ended, until } from '../support/process.ts'
import { askOne, type Cluster, type ClusterOptions, startCluster } from '../support/standby.ts'

async function withCluster(
  replicas: number,
  body: (cluster: Cluster, dir: string) => Promise<void>,
  options: ClusterOptions = {},
): Promise<void> {
  await withTempDir(async (dir) => {
    const cluster = await startCluster(dir, replicas, options)
    try {
      await askOne(cluster.primary.connection, 'create table notes (id int)')
      await body(cluster, dir)
    } finally {
      await cluster.stop()
    }
  })
}

const note = (cluster: Cluster, id: number) => askOne(cluster.primary.connection, `insert into notes values (${id})`)
const last = 'select max(id) from notes'
const onPrimary = (cluster: Cluster, text: string) =>
  askOne({ ...cluster.primary.adminConnection, database: 'postgres' }, text)
const primaryOf =
  ({ primary }: Cluster) =>
  () => ({ dataFolder: primary.dataDir.postgres, socketDir: primary.adminConnection.host! })
const copies = ({ events }: { events: readonly string[] }) => events.filter((event) => event.startsWith('copying'))
const slots = `select string_agg(slot_name, ',' order by slot_name) from pg_replication_slots`

test('replicas copy their primary, follow it, refuse writes, and are known to it by name', async () => {
  await withCluster(2, async (cluster) => {
    await note(cluster, 1)
    for (const replica of cluster.replicas) {
      await replica.caughtUp()
      assert.equal(await askOne(replica.connection, last), 1)
      await assert.rejects(askOne(replica.connection, 'insert into notes values (2)'), { code: '25006' })
    }
    const names = `select string_agg(application_name, ',' order by application_name) from pg_stat_replication`
    assert.equal(await onPrimary(cluster, names), 'postgres-2,postgres-3')
    assert.equal(await onPrimary(cluster, slots), 'rung_postgres_2,rung_postgres_3')
    assert.equal(await onPrimary(cluster, 'show data_checksums'), 'on') // pg_rewind needs them
  })
})

test('a replica that was stopped, killed or frozen catches up with its own copy', async () => {
  await withCluster(1, async (cluster) => {
    const [replica] = cluster.replicas
    await replica!.stop()
    await note(cluster, 1)
    await replica!.start()
    await replica!.caughtUp()
    await replica!.kill()
    await note(cluster, 2)
    await replica!.caughtUp()
    replica!.freeze()
    await note(cluster, 3)
    replica!.thaw()
    await replica!.caughtUp()
    assert.equal(await askOne(replica!.connection, last), 3)
    assert.equal(copies(replica!).length, 1)
  })
})

test('replicas follow a primary that was killed', async () => {
  await withCluster(2, async (cluster) => {
    const pid = cluster.primary.pid()!
    process.kill(pid, 'SIGKILL')
    await ended(pid)
    await until(() => cluster.primary.pid() !== pid, 'the primary is back')
    await until(
      () =>
        note(cluster, 1).then(
          () => true,
          () => false,
        ),
      'the primary accepts writes',
    )
    for (const replica of cluster.replicas) {
      await replica.caughtUp()
      assert.equal(await askOne(replica.connection, last), 1)
    }
  })
})

const program = fileURLToPath(new URL('../support/replica-and-die.ts', import.meta.url))

async function startAndDie(
  options: Omit<StandbyOptions, 'primary'> & { primary(): PrimaryPlace },
  moment: 'copy' | 'run',
): Promise<void> {
  const child = fork(program, [JSON.stringify({ ...options, primary: options.primary() }), moment])
  const [, signal] = await once(child, 'exit')
  assert.equal(signal, 'SIGKILL')
}

test('a process that was killed in the middle of a copy leaves nothing that hinders the next one', async () => {
  await withCluster(1, async (cluster) => {
    const [replica] = cluster.replicas
    const { name, root } = replica!
    await replica!.stop()
    await rm(root, { recursive: true })
    await startAndDie({ name, root, primary: primaryOf(cluster), connectionsMax: 100 }, 'copy')
    assert.match(String(await readdir(root)), /data\.new-\d+/)
    await note(cluster, 1)
    await replica!.start()
    await replica!.caughtUp()
    assert.equal(await askOne(replica!.connection, last), 1)
    assert.deepEqual((await readdir(root)).sort(), ['copied.json', 'data', 'postgres.log', 'run', 'server.pid'])
  })
})

test('a replica that outlived its process is taken over, or restarted if its settings differ', async () => {
  await withCluster(1, async (cluster) => {
    const [replica] = cluster.replicas
    const { name, root } = replica!
    const options = { name, root, primary: primaryOf(cluster), connectionsMax: 100, throwaway: true }
    for (const [changes, event] of [
      [{}, /^adopted/],
      [{ connectionsMax: 110 }, /^started/],
    ] as const) {
      await replica!.stop()
      await startAndDie(options, 'run')
      await replica!.start(changes)
      assert.match(replica!.events.at(-1)!, event)
      await replica!.caughtUp()
    }
    assert.equal(await askOne(replica!.connection, 'show max_connections'), '110')
    await replica!.stop()
    await replica!.start() // with fewer than the log was written with, if need be
    await replica!.caughtUp()
  })
})

test('the folder of a promoted replica is refused, and one whose history has diverged is copied anew', async () => {
  await withCluster(1, async (cluster) => {
    const [replica] = cluster.replicas
    await askOne(replica!.admin, 'select pg_promote()')
    await askOne(replica!.connection, 'insert into notes values (99)')
    await replica!.stop()
    await note(cluster, 1)
    await assert.rejects(replica!.start(), { code: 'DATA_DIR_PRIMARY' })
    const place = { name: replica!.name, root: replica!.root, primary: primaryOf(cluster) }
    await assert.rejects(removeStandby(place), { code: 'DATA_DIR_PRIMARY' })
    assert.ok((await readdir(path.join(replica!.root, 'data'))).includes('PG_VERSION'))
    await writeFile(path.join(replica!.root, 'data', 'standby.signal'), '')
    await replica!.start()
    await replica!.caughtUp()
    assert.equal(await askOne(replica!.connection, last), 1)
    assert.match(copies(replica!)[1]!, /its history has diverged/)
  })
})

test('a replica whose log is gone from the primary is copied anew, while it runs or at its start', async () => {
  await withCluster(1, async (cluster) => {
    const [replica] = cluster.replicas
    const remove = async () => {
      await until(async () => {
        // A receiver that is stopped while it connects has a sender only a moment later.
        await onPrimary(cluster, 'select pg_terminate_backend(active_pid) from pg_replication_slots where active')
        return onPrimary(cluster, 'select not active from pg_replication_slots') as Promise<boolean>
      }, 'it is away')
      await onPrimary(cluster, `select pg_drop_replication_slot('rung_postgres_2')`)
      for (let id = 1; id <= 3; id += 1) {
        await note(cluster, id)
        await onPrimary(cluster, 'select pg_switch_wal()')
      }
      await onPrimary(cluster, 'checkpoint')
    }
    await replica!.stop()
    await remove()
    await replica!.start()
    await replica!.caughtUp()
    assert.match(copies(replica!)[1]!, /the log that it needs is gone/)

    const receiver = Number(await askOne(replica!.admin, 'select pid from pg_stat_wal_receiver'))
    process.kill(receiver, 'SIGSTOP')
    await remove()
    process.kill(receiver, 'SIGCONT')
    await until(() => copies(replica!).length === 3, 'it is copied anew')
    await replica!.caughtUp()
    assert.equal(await askOne(replica!.connection, last), 3)
  })
})

test('a replica of another database, or with damaged files, is copied anew', async () => {
  await withCluster(1, async (cluster, dir) => {
    const [replica] = cluster.replicas
    const data = path.join(replica!.root, 'data')
    await replica!.stop()
    const other = await startEmbedded({ root: path.join(dir, 'other'), connectionsMax: 100, throwaway: true })
    await other.stop()
    await rm(data, { recursive: true })
    await cp(other.dataDir.postgres, data, { recursive: true })
    await writeFile(path.join(data, 'standby.signal'), '')
    await replica!.start()
    assert.match(copies(replica!)[1]!, /it belongs to another database/)

    await replica!.stop()
    const control = await open(path.join(data, 'global', 'pg_control'), 'r+')
    await control.write(Buffer.alloc(8, 7), 0, 8, 48)
    await control.close()
    await replica!.start()
    assert.match(copies(replica!)[2]!, /it does not start/)

    await replica!.stop()
    await rm(path.join(data, 'PG_VERSION'))
    await replica!.start()
    assert.match(copies(replica!)[3]!, /its files are damaged/)
    await replica!.caughtUp()
  })
})

test('a delayed replica receives the log, and shows it later', async () => {
  await withCluster(
    1,
    async (cluster) => {
      const [replica] = cluster.replicas
      await note(cluster, 1)
      const end = await onPrimary(cluster, 'select pg_current_wal_lsn()')
      const received = `select pg_last_wal_receive_lsn() >= '${end}'::pg_lsn`
      await until(() => askOne(replica!.admin, received) as Promise<boolean>, 'it has received the row')
      assert.equal(await askOne(replica!.admin, `select pg_last_wal_replay_lsn() >= '${end}'::pg_lsn`), false)
      await replica!.stop()
      await replica!.start({ applyDelayMs: 0 })
      await replica!.caughtUp()
      assert.equal(await askOne(replica!.connection, last), 1)
      assert.equal(copies(replica!).length, 1)
    },
    { applyDelayMs: 3_600_000 },
  )
})

test('slots go with their replicas, and those of replicas that are away keep no rows', async () => {
  await withCluster(3, async (cluster, dir) => {
    const [second, third, fourth] = cluster.replicas
    await removedWith(cluster, third!)
    assert.equal(await onPrimary(cluster, slots), 'rung_postgres_2,rung_postgres_4')
    assert.deepEqual((await readdir(dir)).sort(), ['postgres-2', 'postgres-4', 'primary'])

    const admin = await connectOnce(cluster.primary.adminConnection)
    try {
      const xmin = `select xmin::text from pg_replication_slots where slot_name = 'rung_postgres_2'`
      await until(async () => (await onPrimary(cluster, xmin)) !== null, 'the replica has said which rows it needs')
      await second!.stop()
      const away = `select not active from pg_replication_slots where slot_name = 'rung_postgres_2'`
      await until(() => onPrimary(cluster, away) as Promise<boolean>, 'the primary knows that it is away')
      const kept = `select restart_lsn from pg_replication_slots where slot_name = 'rung_postgres_2'`
      const before = await onPrimary(cluster, kept)
      await releaseRows(admin, cluster.primary.adminConnection, 0)
      await until(async () => (await onPrimary(cluster, xmin)) === null, 'its slot keeps no rows')
      assert.equal(await onPrimary(cluster, kept), before)
      await note(cluster, 1)
      await second!.start()
      await second!.caughtUp()
      assert.equal(copies(second!).length, 1)

      await fourth!.stop()
      const names = ['postgres-2']
      await until(async () => (await dropOtherSlots(admin, names)).length === 1, 'the slot of the fourth is dropped')
      assert.equal(await onPrimary(cluster, slots), 'rung_postgres_2')
    } finally {
      await admin.end()
    }
  })
})

async function removedWith(cluster: Cluster, replica: Cluster['replicas'][number]): Promise<void> {
  await replica.stop()
  await removeStandby({ name: replica.name, root: replica.root, primary: primaryOf(cluster) })
}

test('the log of a replica tells why it cannot follow', () => {
  const about = (line: string) => whatIsWrong(`2026-01-01 [1] LOG:  started\n2026-01-01 [2] FATAL:  ${line}\n`)
  assert.equal(about('terminating walreceiver due to timeout'), undefined)
  assert.equal(about('could not connect to server: No such file or directory'), undefined)
  assert.equal(
    about('could not start WAL streaming: ERROR:  replication slot "rung_postgres_2" does not exist'),
    'slot',
  )
  assert.match(
    about('could not receive data from WAL stream: ERROR:  requested WAL segment 0A has already been removed')!,
    /gone/,
  )
  assert.match(about('highest timeline 1 of the primary is behind recovery timeline 2')!, /diverged/)
})

test('a replica has diverged when it is past the place at which its primary left their common history', () => {
  const primary = {
    timeline: 3,
    lsn: 300n,
    history: [1, 2].map((timeline) => ({ timeline, lsn: BigInt(timeline) * 100n })),
  }
  for (const [timeline, lsn, expected] of [
    [3, 300n, false],
    [3, 301n, true],
    [2, 200n, false],
    [2, 201n, true],
    [1, 150n, true],
    [4, 10n, true],
    [0, 0n, false],
  ] as const) {
    assert.equal(hasDiverged({ timeline, lsn }, primary), expected, `${timeline}/${lsn}`)
  }
})
