import assert from 'node:assert/strict'
import { test } from 'node:test'
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
    assert.equal(replica!.events.filter((event) => event.startsWith('copying')).length, 1)
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
