import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmod, readFile, writeFile } from 'node:fs/promises'
import { type AddressInfo, createServer, type Socket } from 'node:net'
import path from 'node:path'
import { openDataDir } from '../engines/postgres/data-dir.ts'
import { after } from '../kernel/clock.ts'
import { secret } from '../kernel/random.ts'

/** The usual port of the console. Another one is taken if it is not free. */
export const consolePort = 4600

/** Connections that wait until the process runs. */
const waitingMax = 64
/** A connection is passed on again if the process has ended before it came. */
const triesMax = 2
const startMsMax = 15_000
const endMsMax = 3_000

export interface ConsoleDoor {
  /** Without the token. */
  readonly url: string
  readonly token: string
  close(): Promise<void>
}

export interface ConsoleDoorOptions {
  dataDir: string
  /** The file of the app. */
  app: string
  cwd: string
}

const unavailable = [
  'HTTP/1.1 503 Service Unavailable',
  'content-type: text/plain; charset=utf-8',
  'connection: close',
  '',
  'The console could not be started. To see why: rung console\n',
].join('\r\n')

/**
 * Opens the port of the console, and starts its process (`rung console --passed`) only when somebody comes, so that a console costs nothing
 * while nobody looks. Each connection is passed on to that process, which ends when nobody has been there for a while.
 * @param failed is told why it cannot be opened, which keeps no app from running
 */
export async function openConsoleDoor(
  kind: 'off' | 'show' | 'act',
  options: ConsoleDoorOptions,
  failed: (error: unknown) => void,
): Promise<ConsoleDoor | undefined> {
  if (kind === 'off') return undefined
  return open(kind, options).catch((error) => void failed(error))
}

interface Serving {
  readonly child: ChildProcess
  readonly isReady: Promise<unknown>
  /** On their way to it, by number. */
  readonly passed: Map<number, Socket>
}

async function open(kind: 'show' | 'act', { dataDir, app, cwd }: ConsoleDoorOptions): Promise<ConsoleDoor> {
  const token = await tokenIn(dataDir)
  let serving: Serving | undefined
  let connections = 0

  function serve(port: number): Serving {
    const act = kind === 'act' ? ['--act'] : []
    const words = ['console', app, '--data', dataDir, '--port', `${port}`, '--passed', ...act]
    const child = spawn(process.execPath, [...process.execArgv, process.argv[1]!, ...words], {
      cwd,
      stdio: ['ignore', 'ignore', 'ignore', 'ipc'],
    })
    child.on('error', () => {}) // its end is seen below
    const forget = after(startMsMax, () => void child.kill('SIGKILL'))
    const passed = new Map<number, Socket>()
    child.on('message', (arrived) => {
      passed.get(arrived as number)?.destroy() // of this process alone
      passed.delete(arrived as number)
    })
    const ended = once(child, 'close').finally(() => {
      serving = undefined
      // It has read nothing of them, so the next one can.
      for (const client of passed.values()) void pass(client, triesMax - 1)
      throw new Error('The process of the console has ended.')
    })
    const isReady = Promise.race([once(child, 'message'), ended]).finally(forget)
    isReady.catch(() => {})
    return { child, isReady, passed }
  }

  async function pass(client: Socket, tries = 0): Promise<void> {
    if (tries >= triesMax || !server.listening) return void client.destroy()
    try {
      serving ??= serve((server.address() as AddressInfo).port)
      const { child, isReady, passed } = serving
      await isReady
      connections += 1
      passed.set(connections, client)
      child.send(connections, client, { keepOpen: true }, () => {}) // if it fails, the process ends
    } catch {
      client.end(unavailable)
    }
  }

  // What a client sends before the process runs stays in the socket.
  const server = createServer({ pauseOnConnect: true }, (client: Socket) => {
    client.on('error', () => client.destroy())
    void pass(client)
  })
  server.maxConnections = waitingMax
  const listen = (port: number) =>
    new Promise<void>((resolve, reject) => server.once('error', reject).listen(port, '127.0.0.1', resolve))
  await listen(consolePort).catch(() => listen(0))
  server.on('error', () => {}) // a connection that could not be accepted
  server.unref()
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/`,
    token,
    async close() {
      server.close()
      const child = serving?.child
      if (!child?.kill()) return
      const forget = after(endMsMax, () => void child.kill('SIGKILL'))
      await once(child, 'close')
      forget()
    },
  }
}

/** Stays the same over restarts, so that a bookmark does. */
export async function tokenIn(dataDir: string): Promise<string> {
  await openDataDir(dataDir)
  const file = path.join(dataDir, 'console-token')
  const known = await readFile(file, 'utf8').catch(() => '')
  if (/^[\w-]{43}\n$/.test(known)) return known.trim()
  const token = secret()
  await writeFile(file, `${token}\n`, { mode: 0o600 })
  await chmod(file, 0o600)
  return token
}

/** Where it is, for people: with the token only on a terminal, since other outputs are kept. */
export function consoleText({ url, token }: ConsoleDoor): string {
  return process.stdout.isTTY ? `${url}?token=${token}` : `${url}  (its token: rung console --token)`
}
