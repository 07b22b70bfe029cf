import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { openRedis, type RedisClient } from '../../src/engines/redis/client.ts'
import type { RedisNodes } from '../../src/engines/redis/nodes.ts'
import {
  installedRedis,
  type RedisServer,
  type RedisServerOptions,
  startRedis,
} from '../../src/engines/redis/server.ts'
import { onFreePort } from './ports.ts'

/** For `{ skip: noRedis }`: the reason, where none is installed. */
export const noRedis: string | false = installedRedis() ? false : 'Redis is not installed: rung engines install redis'

export interface TestRedis {
  /** With the password; the same after `start`. */
  readonly url: string
  readonly port: number
  readonly dir: string
  /** Of now; a new one after `start`. */
  readonly server: RedisServer
  /** SIGKILL; connections break. */
  kill(): Promise<void>
  /** SIGSTOP: it accepts connections and says nothing. */
  hang(): void
  /** SIGCONT */
  goOn(): void
  /** Again, on the same port with the same password, empty. */
  start(): Promise<void>
  /** And its folder is gone. */
  stop(): Promise<void>
}

/** A Redis that has all keys of the app `test`. */
export function loneNode(client: RedisClient): RedisNodes {
  return [{ client, root: '{test}' }]
}

export const patientMs = 30_000

/** A connection that waits long for its answers: for tests that are not about slow ones, on a machine that may be busy. */
export function patientRedis(url: string): Promise<RedisClient> {
  return openRedis({ url, commandTimeoutMs: patientMs })
}

/** A real Redis on a free port, of this process: it takes some 30 ms. */
export async function testRedis(options: Partial<RedisServerOptions> = {}): Promise<TestRedis> {
  const dir = await mkdtemp(path.join(tmpdir(), 'rung-test-redis-'))
  const password = options.password ?? 'a password of the tests: @/#%'
  let port = 0
  let server: RedisServer
  async function start(): Promise<void> {
    server = await startRedis({ dir, listen: { port }, password, ...options })
  }
  await onFreePort(async (free) => {
    port = free
    await start()
  })
  return {
    get url() {
      return server.url
    },
    get server() {
      return server
    },
    port,
    dir,
    start,
    async kill() {
      process.kill(server.pid, 'SIGKILL')
      await server.exited
    },
    hang: () => void process.kill(server.pid, 'SIGSTOP'),
    goOn: () => void process.kill(server.pid, 'SIGCONT'),
    async stop() {
      await server.stop()
      await rm(dir, { recursive: true, force: true })
    },
  }
}
