import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { installedNats, type NatsServer, type NatsServerOptions, startNats } from '../../src/engines/nats/server.ts'
import { onFreePort } from './ports.ts'

/** For `{ skip: noNats }`: the reason, where none is installed. */
export const noNats: string | false = installedNats() ? false : 'NATS is not installed: rung engines install nats'

export interface TestNats {
  /** With the password; the same after `start`. */
  readonly url: string
  readonly dir: string
  /** Of now; a new one after `start`. */
  readonly server: NatsServer
  /** SIGKILL; connections break. */
  kill(): Promise<void>
  /** SIGSTOP: it accepts connections and says nothing. */
  hang(): void
  /** SIGCONT */
  goOn(): void
  /** Again, on the same port with the same password, with what it has stored. */
  start(): Promise<void>
  /** Removes all that it has stored, while it does not run. */
  wipe(): Promise<void>
  /** And its folder is gone. */
  stop(): Promise<void>
}

/** A real NATS with JetStream on a free port, of this process. */
export async function testNats(options: Partial<NatsServerOptions> = {}): Promise<TestNats> {
  const dir = await mkdtemp(path.join(tmpdir(), 'rung-test-nats-'))
  const password = 'a password of the tests: @/#%'
  let port = 0
  let server: NatsServer
  async function start(): Promise<void> {
    server = await startNats({ dir, listen: { port }, password, ...options })
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
    async kill() {
      server.kill()
      await server.exited
      await server.stop()
    },
    hang: () => server.signal('SIGSTOP'),
    goOn: () => server.signal('SIGCONT'),
    dir,
    start,
    wipe: () => rm(path.join(dir, 'store'), { recursive: true, force: true }),
    async stop() {
      server.signal('SIGCONT')
      await server.stop()
      await rm(dir, { recursive: true, force: true })
    },
  }
}
