import assert from 'node:assert/strict'
import { mkdir } from 'node:fs/promises'
import path from 'node:path'
import { after, before, describe, it } from 'node:test'
import { type FaultProxy, openProxy } from '../../../src/chaos/proxy.ts'
import { serverNames } from '../../../src/engines/postgres/recipe.ts'
import { after as afterMs, systemClock } from '../../../src/kernel/clock.ts'
import { RungError } from '../../../src/kernel/errors.ts'
import { runInScope, Scope } from '../../../src/kernel/scope.ts'
import { clusterDatabase } from '../../../src/primitives/data/cluster.ts'
import type { Database } from '../../../src/primitives/data/contract.ts'
import { createData, type Data } from '../../../src/primitives/data/data.ts'
import { postgresServer } from '../../../src/primitives/data/postgres.ts'
import { testLimits } from '../../support/data.ts'
import { openScratch, until } from '../../support/process.ts'
import { type Cluster, startCluster, untilReplicaReads } from '../../support/standby.ts'

/** A node whose way to each server can be disturbed: the primary, the replica that reads, and the spare one. */
describe('a network that fails between a node and its database servers', () => {
  let scratch: Awaited<ReturnType<typeof openScratch>>
  let cluster: Cluster
  let proxies: FaultProxy[]
  let database: Database
  let data: Data
  before(async () => {
    scratch = await openScratch()
    cluster = await startCluster(scratch.dir, 2)
    const connections = [cluster.primary.connection, ...cluster.replicas.map(({ connection }) => connection)]
    const names = serverNames(connections.length)
    proxies = []
    const servers = []
    for (const [index, connection] of connections.entries()) {
      const host = path.join(scratch.dir, `way-${index}`)
      await mkdir(host)
      const socket = `.s.PGSQL.${connection.port ?? 5432}`
      proxies.push(await openProxy({ path: path.join(connection.host!, socket) }, path.join(host, socket)))
      servers.push(
        postgresServer({
          name: names[index]!,
          connection: { ...connection, host },
          limits: testLimits,
          connectionsMax: { read: 5, write: 5 },
          idleTimeoutMs: 60_000,
        }),
      )
    }
    database = clusterDatabase({ name: 'main', servers, lagMsMax: 600_000, primaryReadsMax: 5 })
    data = createData(database).forModule('test')
    await data.pool.query('create table note (id int primary key)')
    await untilReplicaReads(database)
  })
  after(async () => {
    await database?.close()
    for (const proxy of proxies ?? []) proxy.close()
    await cluster?.stop()
    await scratch?.end()
  })

  let last = 0
  /** Writes, and reads it back in the same session. */
  async function writeAndRead(ms = 60_000): Promise<void> {
    const scope = new Scope('request', 'test', 'test')
    scope.deadlineAt = systemClock.ticks() + ms
    const forget = afterMs(ms, () => scope.cancel(new RungError('HTTP_TIMEOUT', 'The request ran out of time.')))
    await runInScope(scope, async () => {
      const id = ++last
      await data.write((tx) => tx`insert into note values (${id})`)
      const rows = await data.read((sql) => sql`select from note where id = ${id}`)
      assert.equal(rows.length, 1, 'a session sees its own write')
    }).finally(forget)
  }
  const read = () => runInScope(new Scope('request', 'test', 'test'), () => data.read((sql) => sql`select 1`))
  const inRotation = () => database.servers!().flatMap(({ name, inRotation }) => (inRotation ? [name] : []))

  it('latency, jitter, slices and a narrow line change nothing but the time', async () => {
    proxies[0]!.set({ latencyMs: 5, jitterMs: 10 })
    proxies[1]!.set({ sliceBytes: 3 })
    proxies[2]!.set({ bytesPerSecond: 100_000 })
    for (let n = 0; n < 20; n += 1) await writeAndRead()
    for (const proxy of proxies) proxy.heal()
  })

  it('a replica in a black hole leaves the rotation, no read fails, and it comes back', async () => {
    const [, way] = proxies
    way!.set({ blackHole: true })
    const reads = Promise.all(Array.from({ length: 20 }, read))
    await reads
    await until(() => !inRotation().includes('postgres-2'), 'the replica is out of the rotation')
    for (let n = 0; n < 10; n += 1) await writeAndRead()
    way!.heal()
    await until(async () => {
      await read()
      return inRotation().includes('postgres-2')
    }, 'the replica is back')
  })

  it('both replicas in black holes: the primary reads', async () => {
    for (const way of proxies.slice(1)) way.set({ blackHole: true })
    await Promise.all(Array.from({ length: 20 }, read))
    await writeAndRead()
    for (const way of proxies.slice(1)) way.heal()
    await untilReplicaReads(database)
  })

  it('connections to the primary that are half-open end with the request that waits on them, and others go on', async () => {
    await Promise.all(Array.from({ length: 5 }, () => writeAndRead()))
    proxies[0]!.halfOpen()
    await Promise.all(Array.from({ length: 20 }, read))
    // Nobody can tell such a connection from one to a slow server. Its request has a time limit, and the next one a new connection.
    await until(async () => {
      const ends = await Promise.allSettled(Array.from({ length: 5 }, () => writeAndRead(1_500)))
      return ends.every(({ status }) => status === 'fulfilled')
    }, 'all writes are answered')
  })

  it('connections that are reset are replaced, and no read fails', async () => {
    for (let n = 0; n < 10; n += 1) {
      const reads = Array.from({ length: 10 }, read)
      proxies[1]!.reset()
      await Promise.all(reads)
    }
  })
})
