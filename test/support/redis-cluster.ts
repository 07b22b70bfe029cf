import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { type RedisClient, redisFacts } from '../../src/engines/redis/client.ts'
import { installedRedis } from '../../src/engines/redis/server.ts'
import { freePort } from './ports.ts'
import { until } from './process.ts'
import { patientRedis } from './redis.ts'

const slots = 16_384

/** Two nodes, each with half of the slots. */
export interface TestRedisCluster {
  /** Of the node that does not have the keys of this app. */
  urlBeside(app: string): Promise<string>
  /** To the other node; what was kept in the slot is gone. */
  moveSlotOf(app: string): Promise<void>
  stop(): Promise<void>
}

export async function testRedisCluster(): Promise<TestRedisCluster> {
  const nodes = [await startNode(), await startNode()] as const
  const [first, second] = nodes
  await first.client.call('CLUSTER', 'ADDSLOTSRANGE', 0, slots / 2 - 1)
  await second.client.call('CLUSTER', 'ADDSLOTSRANGE', slots / 2, slots - 1)
  await first.client.call('CLUSTER', 'MEET', '127.0.0.1', second.port, second.busPort)
  for (const { client } of nodes) {
    await until(
      async () => /cluster_state:ok/.test(String(await client.call('CLUSTER', 'INFO'))),
      'the cluster has all its slots',
    )
  }
  const slotOf = async (app: string) => Number(await first.client.call('CLUSTER', 'KEYSLOT', `{${app}}`))
  let moved = false
  return {
    async urlBeside(app) {
      const { port } = (await slotOf(app)) < slots / 2 ? second : first
      return `redis://127.0.0.1:${port}`
    },
    async moveSlotOf(app) {
      const slot = await slotOf(app)
      const from = slot < slots / 2 !== moved ? first : second
      const to = from === first ? second : first
      const id = String(await to.client.call('CLUSTER', 'MYID'))
      await from.client.call('FLUSHALL')
      for (const { client } of [to, from]) {
        await until(
          () =>
            client.call('CLUSTER', 'SETSLOT', slot, 'NODE', id).then(
              () => true,
              () => client.call('FLUSHALL').then(() => false),
            ),
          'the slot has another place',
        )
      }
      moved = !moved
    },
    async stop() {
      for (const { stop } of nodes) await stop()
    },
  }
}

async function startNode(): Promise<{ port: number; busPort: number; client: RedisClient; stop(): Promise<void> }> {
  const dir = await mkdtemp(path.join(tmpdir(), 'rung-test-cluster-'))
  const [port, busPort] = [await freePort(), await freePort()]
  const settings = {
    port,
    bind: '127.0.0.1',
    dir,
    save: '',
    'cluster-enabled': 'yes',
    'cluster-port': busPort,
  }
  const args = Object.entries(settings).flatMap(([name, value]) => [`--${name}`, String(value)])
  const child = spawn(installedRedis()!.path, args, { stdio: 'ignore' })
  const exited = once(child, 'exit')
  const end = () => void child.kill('SIGKILL')
  process.once('exit', end)
  const url = `redis://127.0.0.1:${port}`
  await until(() => redisFacts(url, 500).then(Boolean, () => false), 'a node of the cluster answers')
  const client = await patientRedis(url)
  return {
    port,
    busPort,
    client,
    async stop() {
      client.close()
      process.off('exit', end)
      end()
      await exited
      await rm(dir, { recursive: true, force: true })
    },
  }
}
