import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import {
  type BalancerOptions,
  type BalancerServer,
  installedHaproxy,
  startBalancer,
} from '../../src/engines/haproxy/server.ts'
import { isRungError } from '../../src/kernel/errors.ts'
import { freePort } from './ports.ts'
import { until } from './process.ts'

/** For `{ skip: noHaproxy }`: the reason, where none is installed. */
export const noHaproxy: string | false = installedHaproxy()
  ? false
  : 'HAProxy is not installed: rung engines install haproxy'

const app = fileURLToPath(new URL('./balanced-app.ts', import.meta.url))

export interface BalancedApp {
  readonly name: string
  readonly address: string
  readonly process: ChildProcess
  /** Resolves when it has obeyed. */
  tell(message: { ready?: boolean; pauseMs?: number }): Promise<void>
}

export interface Balanced {
  readonly server: BalancerServer
  readonly dir: string
  readonly apps: readonly BalancedApp[]
  /** The ids of all POSTs that were executed. */
  executed(): Promise<string[]>
  /** Waits until HAProxy says this of a server: `UP`, `DOWN`. */
  untilStatus(name: string, status: string): Promise<void>
}

/** A real HAProxy over processes of test/support/balanced-app.ts. */
export async function withBalancer(
  count: number,
  body: (balanced: Balanced) => Promise<void>,
  options: Partial<BalancerOptions> = {},
): Promise<void> {
  const dir = await mkdtemp(path.join(tmpdir(), 'rung-test-haproxy-'))
  const file = path.join(dir, 'executed')
  const apps = await Promise.all(Array.from({ length: count }, (_, index) => startApp(`web-${index + 1}`, file)))
  const server = await startOn(dir, apps, options)
  try {
    await body({
      server,
      dir,
      apps,
      executed: async () => (await readFile(file, 'utf8').catch(() => '')).split('\n').filter(Boolean),
      async untilStatus(name, status) {
        await until(async () => (await statusOf(server, name)) === status, `${name} is ${status}`)
      },
    })
  } finally {
    await server.stop()
    for (const { process } of apps) process.kill('SIGKILL')
    await rm(dir, { recursive: true, force: true })
  }
}

async function statusOf(server: BalancerServer, name: string): Promise<string | undefined> {
  const [heads, ...rows] = (await server.ask('show stat'))
    .replace(/^# /, '')
    .split('\n')
    .map((line) => line.split(','))
  const row = rows.find((one) => one[1] === name)
  return row?.[heads!.indexOf('status')]?.replace(/ .*/, '')
}

async function startApp(name: string, file: string): Promise<BalancedApp> {
  const process = fork(app, [name, file], { execArgv: ['--conditions=rung-source'] })
  const [{ port }] = (await once(process, 'message')) as [{ port: number }]
  return {
    name,
    address: `127.0.0.1:${port}`,
    process,
    async tell(message) {
      const done = once(process, 'message')
      process.send(message)
      await done
    },
  }
}

/** A real HAProxy on a free port. */
export async function startOn(
  dir: string,
  apps: readonly Pick<BalancedApp, 'name' | 'address'>[],
  options: Partial<BalancerOptions>,
): Promise<BalancerServer> {
  const servers = apps.map(({ name, address }) => ({ name, address }))
  for (let attempt = 0; ; attempt += 1) {
    try {
      const listen = { host: '127.0.0.1', port: await freePort() }
      return await startBalancer({ dir: path.join(dir, 'haproxy'), listen, isEntry: true, servers, ...options })
    } catch (error) {
      if (attempt >= 5 || !isRungError(error, 'PORT_IN_USE')) throw error // another test was faster
    }
  }
}
