import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import type { RedisClient } from '../../src/engines/redis/client.ts'
import { openRedisNodes, type RedisNodes } from '../../src/engines/redis/nodes.ts'
import { redisUrl } from '../../src/engines/redis/recipe.ts'
import { type RedisServer, startRedis } from '../../src/engines/redis/server.ts'
import { slotOf, slotsOf } from '../../src/engines/redis/slots.ts'
import { freePort } from './ports.ts'
import { until } from './process.ts'
import { patientMs, patientRedis } from './redis.ts'

const password = 'a password of the tests: @/#%,'

export interface TestRedisCluster {
  /** As the processes of a fleet reach the nodes: through their sockets. */
  readonly sockets: readonly string[]
  /** As those of somebody else's cluster, which follow its answers from node to node. */
  readonly urls: readonly string[]
  readonly nodes: readonly TestRedisNode[]
  /** Of a node that does not have the one slot of this app. */
  urlBeside(app: string): string
  /** To another node; what was kept in the slot is gone. */
  moveSlotOf(app: string): Promise<void>
  /** Stops it, and starts so many nodes in the same folders. */
  again(count: number): Promise<TestRedisCluster>
  stop(): Promise<void>
}

export interface TestRedisNode {
  readonly dir: string
  /** Of now; a new one after `start`. */
  readonly server: RedisServer
  kill(): Promise<void>
  hang(): void
  goOn(): void
  /** Again, empty, and resolves when it serves its slots. */
  start(): Promise<void>
  tell(...command: string[]): Promise<unknown>
}

/** Connects to all nodes, as a process of a fleet does, with patience. */
export function openCluster({ sockets }: TestRedisCluster): Promise<RedisNodes> {
  return openRedisNodes({ urls: sockets, nodes: sockets.length, app: 'test', commandTimeoutMs: patientMs })
}

/** A cluster on free ports, as `rung up` starts it. It takes some 2 s. */
export async function testRedisCluster(): Promise<TestRedisCluster> {
  return startCluster(await mkdtemp(path.join(tmpdir(), 'rung-test-cluster-')), 3)
}

async function startCluster(root: string, count: number): Promise<TestRedisCluster> {
  const ports: { port: number; busPort: number }[] = []
  for (let index = 0; index < count; index += 1) ports.push({ port: await freePort(), busPort: await freePort() })
  const urls = ports.map(({ port }) => redisUrl({ listen: { port }, password }))
  const nodes = await Promise.all(ports.map((_, index) => startNode(root, ports, index)))

  async function onNode<T>(node: TestRedisNode, run: (client: RedisClient) => Promise<T>): Promise<T> {
    const client = await patientRedis(node.server.url)
    return run(client).finally(() => client.close())
  }
  const homeOf = (slot: number) => nodes.findIndex((_, at) => slot <= slotsOf(at, count).last)
  const moved = new Map<number, number>()
  return {
    sockets: nodes.map(({ server }) => server.url),
    urls,
    nodes,
    urlBeside: (app) => urls[(homeOf(slotOf(app)) + 1) % count]!,
    async moveSlotOf(app) {
      const slot = slotOf(app)
      const from = moved.get(slot) ?? homeOf(slot)
      const to = (from + 1) % count
      const id = String(await nodes[to]!.tell('CLUSTER', 'MYID'))
      await nodes[from]!.tell('FLUSHALL')
      for (const node of [nodes[to]!, ...nodes.filter((one) => one !== nodes[to])]) {
        await until(
          () =>
            node.tell('CLUSTER', 'SETSLOT', String(slot), 'NODE', id).then(
              () => true,
              () => node.tell('FLUSHALL').then(() => false),
            ),
          'the slot has another place',
        )
      }
      moved.set(slot, to)
    },
    async again(other) {
      await Promise.all(nodes.map(({ server }) => server.stop()))
      return startCluster(root, other)
    },
    async stop() {
      await Promise.all(nodes.map(({ server }) => server.stop()))
      await rm(root, { recursive: true, force: true })
    },
  }

  async function startNode(
    root: string,
    ports: { port: number; busPort: number }[],
    index: number,
  ): Promise<TestRedisNode> {
    const dir = path.join(root, `redis-${index + 1}`)
    let server: RedisServer
    async function start(): Promise<void> {
      server = await startRedis({
        dir,
        listen: { socketPath: `${dir}/redis.sock` },
        password,
        cluster: { ...ports[index]!, index, nodes: count },
        others: ports.filter((_, other) => other !== index),
      })
    }
    await start()
    const node: TestRedisNode = {
      dir,
      get server() {
        return server
      },
      start,
      async kill() {
        process.kill(server.pid, 'SIGKILL')
        await server.exited
      },
      hang: () => void process.kill(server.pid, 'SIGSTOP'),
      goOn: () => void process.kill(server.pid, 'SIGCONT'),
      tell: (command, ...args) => onNode(node, (client) => client.call(command!, ...args)),
    }
    return node
  }
}
