import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { existsSync, readFileSync, rmSync } from 'node:fs'
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { setTimeout as wait } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { type Client, connectOnce } from '../../src/engines/postgres/client.ts'
import { socketDirFor } from '../../src/engines/postgres/recipe.ts'
import { copyDataTemplate, makeDataTemplate } from './data-template.ts'

/** Rung as a process of its own, as its users run it. */

export const bin = fileURLToPath(new URL('../../src/cli/bin.js', import.meta.url))
export const ledgerApp = fileURLToPath(new URL('./apps/ledger/app.ts', import.meta.url))

/** Long enough for any machine; reached only by something that hangs. */
const hangsAfterMs = 300_000

export interface Options {
  /** The app's file; the ledger by default. */
  app?: string
  dataDir?: string
  env?: Record<string, string | undefined>
  /** `rung up` with this rung, instead of `rung start`. */
  up?: string
  /** Another command, as it is typed. */
  command?: readonly string[]
  /** After the app's file. */
  args?: readonly string[]
  cwd?: string
  /** Makes its database itself, where another start would get a copy of an empty one. */
  firstStart?: boolean
  /** Leads a process group of its own, as a terminal's job does. */
  group?: boolean
}

/** What `rung start --json` tells. */
export interface Facts {
  app: string
  url: string
  console: string | null
  data: string
  pid: number
  postgresPid: number | undefined
  /** Of `rung up`. */
  parts?: { name: string; pid: number; address: string; trouble?: string }[]
}

export interface Exit {
  code: number | null
  signal: NodeJS.Signals | null
  /** The end of what it printed, for the message of a test that fails. */
  told?: string
}

/** A process that was launched and may not have started yet. */
export interface Launched {
  pid: number
  /** Rejects when it ends before it answers. */
  started: Promise<Facts>
  exited: Promise<Exit>
  stdout(): string
  stderr(): string
  /** Until it prints this on standard error. */
  saw(pattern: RegExp): Promise<void>
  /** Sends the signal and waits for the end. */
  stop(signal?: NodeJS.Signals): Promise<Exit>
  /** kill -9 of this process alone. */
  kill(): Promise<Exit>
}

export interface RungProcess extends Launched, Facts {
  pid: number
  postgresPid: number
}

export interface Finished extends Exit {
  stdout: string
  stderr: string
  /** Of `--json`. */
  error: { code: string; message: string } | undefined
}

/** A private folder and everything that runs on it; after `body` none of it is left. */
export interface Scratch {
  dir: string
  dataDir: string
  /** Without a database to begin with, unless it is `rung up`. */
  launch(options?: Options): Launched
  /** Waits until it answers. Its database is a copy of an empty one, unless there is one already. */
  start(options?: Options): Promise<RungProcess>
  /** `rung start` that is expected to end by itself. */
  startFails(options?: Options): Promise<Finished>
  /** Connects to the embedded Postgres of `dataDir` as its superuser. */
  connect(dataDir?: string): Promise<Client>
  /** To be done at the end, when nothing runs any more and before the folder goes. */
  atEnd(step: () => void): void
}

const openScratches = new Set<() => void>()
for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.once(signal, () => {
    for (const endAtOnce of openScratches) endAtOnce()
    process.exit(1)
  })
}

export async function withScratch(body: (scratch: Scratch) => Promise<void>): Promise<void> {
  const scratch = await openScratch()
  try {
    await body(scratch)
  } finally {
    await scratch.end()
  }
}

export async function openScratch(): Promise<Scratch & { end(): Promise<void> }> {
  await makeDataTemplate()
  const dir = await mkdtemp(path.join(tmpdir(), 'rung-test-'))
  const dataDir = path.join(dir, 'data')
  const dataDirs = new Set<string>()
  const launched: Launched[] = []
  const clients: Client[] = []
  const steps: (() => void)[] = []

  function launch(options: Options = {}): Launched {
    const at = options.dataDir ?? dataDir
    if (at.startsWith(dir)) dataDirs.add(at)
    if (options.up !== undefined) copyDataTemplate(at)
    const one = launchRung({ cwd: dir, ...options, dataDir: at })
    launched.push(one)
    return one
  }

  async function start(options: Options = {}): Promise<RungProcess> {
    if (!options.firstStart) copyDataTemplate(options.dataDir ?? dataDir)
    const one = launch(options)
    const facts = await one.started
    return { ...one, ...facts, postgresPid: facts.postgresPid ?? 0 }
  }

  async function startFails(options: Options = {}): Promise<Finished> {
    const one = launch(options)
    const facts = await Promise.race([one.started.catch(() => undefined), one.exited.then(() => undefined)])
    assert.equal(facts, undefined, 'it starts, where it should not')
    const exit = await one.exited
    const document = documentIn(one.stdout()) as Pick<Finished, 'error'> | undefined
    return { ...exit, stdout: one.stdout(), stderr: one.stderr(), error: document?.error }
  }

  async function connect(at: string = dataDir): Promise<Client> {
    const client = await connectOnce({ host: socketDirFor(at, tmpdir()), port: 5432, user: 'rung', database: 'app' })
    clients.push(client)
    return client
  }

  async function end(): Promise<void> {
    await Promise.all(clients.map((client) => client.end().catch(() => {})))
    await Promise.all(launched.map((one) => one.kill()))
    for (const at of dataDirs) await endPostgres(at)
    for (const at of dataDirs) await rm(socketDirFor(at, tmpdir()), { recursive: true, force: true }).catch(() => {})
    for (const step of steps) step()
    await rm(dir, { recursive: true, force: true, maxRetries: 10 })
    openScratches.delete(endAtOnce)
  }

  /** The test run itself is being ended: whatever can be done in this very moment. */
  const pause = new Int32Array(new SharedArrayBuffer(4))
  function endAtOnce(): void {
    for (const one of launched) void one.kill()
    for (const pid of [...dataDirs].map(postgresPidOf)) {
      if (pid !== undefined) sendTo(pid, 'SIGQUIT')
      for (let n = 0; n < 100 && pid !== undefined && isRunning(pid); n += 1) Atomics.wait(pause, 0, 0, 20)
    }
    for (const step of steps) step()
    rmSync(dir, { recursive: true, force: true, maxRetries: 5 })
  }
  openScratches.add(endAtOnce)

  const atEnd = (step: () => void) => void steps.push(step)
  return { dir, dataDir, launch, start, startFails, connect, atEnd, end }
}

export function launchRung(options: Options): Launched {
  const child = spawn(
    process.execPath,
    [
      '--conditions=rung-source',
      bin,
      ...(options.command ?? [
        ...(options.up === undefined ? ['start'] : ['up', options.up]),
        options.app ?? ledgerApp,
        '--json',
        ...(options.args ?? []),
      ]),
    ],
    {
      cwd: options.cwd,
      env: environment(options),
      stdio: ['ignore', 'pipe', 'pipe'],
      detached: options.group ?? false,
    },
  )
  let stdout = ''
  let stderr = ''
  const listeners = new Set<() => void>()
  const told = () => `${stdout}${stderr}`.slice(-4_000)
  const exited = new Promise<Exit>((resolve, reject) => {
    child.once('error', reject)
    child.once('close', (code, signal) => resolve({ code, signal, told: told() }))
  })
  child.stdout.setEncoding('utf8').on('data', (chunk: string) => {
    stdout += chunk
    for (const listener of listeners) listener()
  })
  child.stderr.setEncoding('utf8').on('data', (chunk: string) => {
    stderr += chunk
    for (const listener of listeners) listener()
  })

  /** Resolves with what `look` finds; rejects when the process ends first. */
  async function found<T>(look: () => T | undefined, what: string): Promise<T> {
    let settle = () => {}
    const seen = new Promise<T>((resolve) => {
      settle = () => {
        const value = look()
        if (value !== undefined) resolve(value)
      }
      listeners.add(settle)
      settle()
    })
    const ended = exited.then(({ code, signal }): T => {
      const value = look()
      if (value !== undefined) return value
      throw new Error(`rung ended (${signal ?? code}) before ${what}: ${told()}`)
    })
    try {
      return await within(Promise.race([seen, ended]), () => `rung has not reached ${what}: ${told()}`)
    } finally {
      listeners.delete(settle)
    }
  }

  function send(signal: NodeJS.Signals): void {
    if (child.exitCode === null && child.signalCode === null) child.kill(signal)
  }

  const started = found(() => {
    const document = documentIn(stdout) as Facts | undefined
    return document?.url === undefined ? undefined : document
  }, 'its start')
  started.catch(() => {})

  return {
    pid: child.pid!,
    started,
    exited,
    stdout: () => stdout,
    stderr: () => stderr,
    async saw(pattern) {
      await found(() => (pattern.test(stderr) ? true : undefined), `${pattern}`)
    },
    async stop(signal = 'SIGTERM') {
      send(signal)
      return within(exited, () => `rung does not end after ${signal}: ${told()}`)
    },
    async kill() {
      send('SIGKILL')
      return exited
    },
  }
}

/** The environment of a user: nothing of the test run's own. */
export function environment({ dataDir, env }: Pick<Options, 'dataDir' | 'env'>): NodeJS.ProcessEnv {
  const kept = Object.entries(process.env).filter(
    ([name]) => !/^(RUNG_.*|NODE_.*|npm_.*|PORT|HOST|DATABASE_URL|LOG_LEVEL|PG.*|CI|OTEL_.*|INIT_CWD)$/.test(name),
  )
  const given = {
    PORT: '0',
    LOG_LEVEL: 'warn',
    RUNG_LIMITS: 'off',
    RUNG_SHEDDING: 'off',
    RUNG_CONSOLE: 'off',
    ...(dataDir && { RUNG_DATA: dataDir }),
    ...env,
  }
  return { ...Object.fromEntries(kept), ...given }
}

/** The one document that begins and ends on lines of its own, among the lines of the log. */
function documentIn(text: string): unknown {
  const match = /^\{\n[\s\S]*?^\}$/m.exec(text)
  return match ? JSON.parse(match[0]) : undefined
}

/** Waits for something that has no signal of its own: looks every 10 ms at first, every 50 ms in the end. */
export async function until<T>(
  check: () => Promise<T | undefined | false> | T | undefined | false,
  what: string | (() => string),
): Promise<T> {
  const begun = performance.now()
  for (;;) {
    const value = await check()
    if (value !== undefined && value !== false) return value
    const waitedMs = performance.now() - begun
    assert.ok(waitedMs < hangsAfterMs, `waited in vain until ${typeof what === 'string' ? what : what()}`)
    await wait(Math.min(50, 10 + waitedMs / 50))
  }
}

async function within<T>(promise: Promise<T>, what: () => string): Promise<T> {
  const over = new AbortController()
  try {
    const late = wait(hangsAfterMs, undefined, { signal: over.signal }).then((): T => {
      throw new Error(what())
    })
    return await Promise.race([promise, late])
  } finally {
    over.abort()
  }
}

/** Whether the process runs; one that is dead and only waits to be reaped does not. */
export function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0)
  } catch {
    return false
  }
  const status = `/proc/${pid}/stat`
  if (!existsSync('/proc/self/stat')) return true
  try {
    return !/^\d+ \(.*\) Z/s.test(readFileSync(status, 'utf8'))
  } catch {
    return false
  }
}

export async function ended(pid: number): Promise<void> {
  await until(() => !isRunning(pid), `process ${pid} has ended`)
}

/** Processes whose command line names this folder: what a test left behind. */
export async function processesOn(dir: string): Promise<number[]> {
  const pids = (await readdir('/proc').catch(() => [])).filter((name) => /^\d+$/.test(name)).map(Number)
  const lines = await Promise.all(
    pids.map(async (pid) => ({ pid, line: await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '') })),
  )
  return lines.filter(({ pid, line }) => pid !== process.pid && line.includes(dir)).map(({ pid }) => pid)
}

/** Its command line. */
export const commandOf = (pid: number) =>
  readFile(`/proc/${pid}/cmdline`, 'utf8').then(
    (text) => text.split('\0'),
    (): string[] => [],
  )

/** The postmaster of a data directory, from its own pid file; its number may be somebody else's by now. */
export function postgresPidOf(dataDir: string): number | undefined {
  try {
    const text = readFileSync(path.join(dataDir, 'postgres', 'postmaster.pid'), 'utf8')
    const pid = Number(text.split('\n', 1)[0])
    if (!(pid > 0) || !isRunning(pid)) return undefined
    const commandLine = `/proc/${pid}/cmdline`
    return !existsSync(commandLine) || readFileSync(commandLine, 'utf8').includes(dataDir) ? pid : undefined
  } catch {
    return undefined
  }
}

export function sendTo(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal)
  } catch {
    // it was faster
  }
}

/**
 * Ends whatever still runs on a folder. A Postgres gets SIGQUIT: it ends at once and takes its shared memory along, which
 * SIGKILL would leave.
 */
export async function endAllOn(dir: string): Promise<void> {
  for (const pid of await processesOn(dir)) {
    const commandLine = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')
    sendTo(pid, commandLine.includes('postgres') ? 'SIGQUIT' : 'SIGKILL')
    await ended(pid)
  }
}

async function endPostgres(dataDir: string): Promise<void> {
  const pid = postgresPidOf(dataDir)
  if (pid !== undefined) {
    process.kill(pid, 'SIGQUIT')
    await ended(pid)
  }
  await endAllOn(dataDir) // a server or an initdb that lost its parent before it wrote a pid file
}

export function sameExit(actual: Exit, code: number): void {
  const { signal, told } = actual
  const isSame = actual.code === code && signal === null
  assert.ok(isSame, `rung ended with ${signal ?? actual.code} instead of ${code}, and said: ${told}`)
}
