import assert from 'node:assert/strict'
import { cp } from 'node:fs/promises'
import path from 'node:path'
import { it } from 'node:test'
import { startEmbedded } from '../../../src/engines/postgres/embedded.ts'
import { migrate } from '../../../src/migrations/migrate.ts'
import { postgresDatabase } from '../../../src/primitives/data/postgres.ts'
import { systemMigrations } from '../../../src/runtime/migrations.ts'
import { testLimits } from '../../support/data.ts'
import { openMesh } from '../../support/mesh.ts'
import { forgetConsumers } from '../../support/mesh-kills.ts'
import { noNats, testNats } from '../../support/nats.ts'
import { withTempDir } from '../../support/postgres.ts'
import { until } from '../../support/process.ts'

it('takes nothing that a restored snapshot does not know, and everything that follows it', { skip: noNats }, () =>
  withTempDir(async (dir) => {
    const nats = await testNats()
    /** Publishes on the server in this folder, until the group has so many deliveries; returns them. */
    async function publishIn(folder: string, payloads: readonly number[], count: number): Promise<unknown[]> {
      const server = await startEmbedded({ root: path.join(dir, folder), connectionsMax: 50 })
      await migrate({ connection: server.connection, migrations: systemMigrations })
      const database = postgresDatabase({
        ...{ name: 'main', connection: server.connection, connectionsMax: { read: 5, write: 5 } },
        ...{ idleTimeoutMs: 60_000, limits: testLimits },
      })
      const mesh = await openMesh({ database }, nats, { app: 'restored' })
      try {
        await mesh.subscribe('group')
        await mesh.start()
        for (const payload of payloads) await mesh.publish(payload)
        await mesh.deliveries('group', count)
        await until(async () => {
          const [{ last, sent, unnumbered }, marks] = await Promise.all([mesh.log.state(), mesh.log.marks()])
          return unnumbered === 0 && sent === last && marks.every(({ n }) => n === last)
        }, 'the broker and the group have everything')
        return await mesh.delivered('group')
      } finally {
        await mesh.close()
        await server.stop()
      }
    }
    try {
      assert.deepEqual(await publishIn('main', [1, 2], 2), [1, 2])
      await cp(path.join(dir, 'main'), path.join(dir, 'snapshot'), { recursive: true })
      assert.deepEqual(await publishIn('main', [3, 4, 5], 5), [1, 2, 3, 4, 5])
      // All messages come again, also those about commits that are lost.
      await forgetConsumers(nats.url)
      assert.deepEqual(await publishIn('snapshot', [6, 7, 8, 9], 6), [1, 2, 6, 7, 8, 9])
    } finally {
      await nats.stop()
    }
  }),
)
