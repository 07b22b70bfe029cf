import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { after } from 'node:test'
import type { App } from '../app/define-app.ts'
import type { Data } from '../app/define-module.ts'
import { after as afterMs } from '../kernel/clock.ts'
import { RungError } from '../kernel/errors.ts'
import type { Principal } from '../kernel/scope.ts'
import { readMessage } from '../primitives/mail/read-message.ts'
import { boot, type Running } from '../runtime/boot.ts'
import { loadApp } from '../runtime/load-app.ts'
import { createLog } from '../runtime/log.ts'
import { migrationsOf } from '../runtime/migrations.ts'
import { readBindings } from '../topology/bindings.ts'
import { readSetting } from '../topology/read-settings.ts'
import { settings } from '../topology/settings.ts'
import { cookieClient, plainClient, signedInClient, type TestClient } from './client.ts'
import { follow, makeTimeMovable, type TestClock, testClock } from './clock.ts'
import { type DrainOptions, type OwnTestJobs, type TestJobs, type TestRun, testJobs } from './jobs.ts'
import { lateApp, watchTests } from './late-app.ts'
import { lateReplica } from './late-replica.ts'
import { nodeOptions, startSecondNode } from './second-node.ts'
import { createTestDatabase, givenServer, startTestServer, type TestServer } from './server.ts'
import { secretPath, withSignIn } from './sign-in-door.ts'

export interface TestOptions<User> {
  /** Settings by their names in the environment: `{ RUNG_LIMITS: 'on' }`. */
  env?: Readonly<Record<string, string>>
  /**
   * How `as` signs a user in where the app has tokens of its own: returns the headers of their requests. Without it `as` begins a
   * session (`defineApp({ sessions })`).
   */
  signIn?: (user: User, client: TestClient) => Promise<Readonly<Record<string, string>>>
}

/** A mail as its reader sees it. */
export interface TestMail {
  readonly from: string
  readonly to: string
  readonly subject: string
  readonly text: string | undefined
  readonly html: string | undefined
  /** Names in lower case. */
  readonly headers: ReadonlyMap<string, string>
}

/** An app that runs for a test. */
export interface TestApp<User = Principal> extends TestClient {
  /** `http://127.0.0.1:49152` */
  readonly url: string
  readonly jobs: TestJobs
  readonly clock: TestClock
  /** Returns a client that keeps cookies, as a browser does. `request` of the app itself keeps none. */
  client(): TestClient
  /**
   * Returns a client that is signed in, with a session of its own, or as `signIn` says.
   * @throws APP_INVALID where the app has no sessions and the test no `signIn`
   */
  as(user: User): TestClient
  /**
   * Returns the data of a module, to arrange and to look at.
   * @throws APP_INVALID where the app has no such module
   */
  data(module: string): Data
  /** Returns the mails that were sent, the oldest first. */
  mails(): Promise<TestMail[]>
  /** Stops the app and removes its data. Twice is the same as once. */
  stop(): Promise<void>
  [Symbol.asyncDispose](): Promise<void>
}

/**
 * Starts an app in this process as `rung start` does, at rung `1k`, with a database of its own: the real one. Its jobs and events
 * run only in `jobs.drain()`, and its crons fire only in `clock.advance()`. Statements that cross a module's border fail.
 * @param of the app, its file, or nothing for the one that `rung start` would find
 * @throws what `rung start` would; TEST_DATABASE
 * @example
 * const app = await testApp(definition) // or `await using`, from Node 24
 * await app.request('/notes', { json: { text: 'Buy milk' }, expect: 201 })
 * await app.stop()
 */
export async function testApp<User = Principal>(
  of?: App | string,
  { env = {}, signIn }: TestOptions<User> = {},
): Promise<TestApp<User>> {
  makeTimeMovable()
  const app = typeof of === 'object' ? of : await loadApp(of, process.cwd())
  const undo: (() => Promise<unknown>)[] = []
  try {
    const dir = await mkdtemp(path.join(tmpdir(), 'rung-test-'))
    undo.push(() => rm(dir, { recursive: true, force: true }))
    const server = await useServer()
    undo.push(() => server.leave())
    const database = await createTestDatabase(server.url, await migrationsOf(app))
    undo.push(() => database.drop())
    const given = { NODE_ENV: 'test', LOG_LEVEL: 'warn', RUNG_SECRET: secret, ...env }
    const late = replica && lateApp(replica, process.argv[1] ?? '')
    if (late) undo.push(async () => late.stop())
    const own = { PORT: '0', RUNG_DATA: dir, DATABASE_URL: database.url }
    // A replica must not leave the rotation before it has caught up.
    const reads = replica && { DATABASE_READ_URL: replica.url(database.name), RUNG_LAG_MS: '60000' }
    const nodeEnv = { ...given, ...own, ...reads }
    const bindings = readBindings(nodeEnv, dir)
    const signInPath = secretPath()
    let jobs!: OwnTestJobs
    const running = await boot(withSignIn(app, signInPath), bindings, {
      ...late?.options,
      ...(nodesFolder !== undefined && nodeOptions),
      log: createLog(app.name, bindings.log.level, { format: 'auto', frames: true }),
      startWork(work, primitives, { lines }) {
        jobs = testJobs(work, primitives, lines)
        return async () => {}
      },
    })
    undo.push(() => running.stop())
    const unfollow = await follow({ setAhead: (ms) => setAhead(running, ms), moved: () => jobs.lookAtCrons() })
    undo.push(async () => unfollow())
    await jobs.lookAtCrons() // from here on they count what they miss
    await late?.settle()
    let { url } = running
    if (nodesFolder !== undefined) {
      const own = { env: nodeEnv, dir, signInPath, firstUrl: url, processEnv: environment }
      const second = await startSecondNode({ app, of, folder: nodesFolder, ...own })
      if (second) {
        undo.push(() => second.stop())
        const unfollowSecond = await follow({ setAhead: second.setAhead, async moved() {} })
        undo.push(async () => unfollowSecond())
        url = second.url
      }
    }
    const signInBySession = async (user: User, client: TestClient) => {
      late?.visited((user as Principal).id)
      await client.request(signInPath, { json: user, expect: 204 })
      return {}
    }
    const signInAsGiven = async (user: User, client: TestClient) => {
      const headers = await signIn!(user, client)
      late?.letCatchUp()
      return headers
    }
    async function drain(options?: DrainOptions): Promise<TestRun[]> {
      await late?.settle()
      return jobs.drain(options).finally(() => late?.letCatchUp())
    }
    const stop = once(() => {
      runningApps.delete(stop)
      return undoAll(undo)
    })
    runningApps.set(stop, app.name)
    return {
      url,
      clock: testClock,
      jobs: { ...jobs, drain },
      ...plainClient(url),
      client: () => cookieClient(url),
      as(user) {
        if (!app.sessions && !signIn) throw noSignIn(app)
        const client = cookieClient(url)
        return signedInClient(client, () => (signIn ? signInAsGiven : signInBySession)(user, client))
      },
      data(module) {
        const known = app.modules.some(({ name }) => name === module)
        const data = running.data.forModule(module)
        if (known) return late ? late.truthful(data) : data
        throw new RungError('APP_INVALID', `"${app.name}" has no module "${module}". Name one of its modules.`)
      },
      mails: () => mailsIn(path.join(dir, 'mail')),
      stop,
      [Symbol.asyncDispose]: stop,
    }
  } catch (error) {
    await undoAll(undo).catch(() => {})
    throw error
  }
}

/** Apps that run, by what stops them. */
const runningApps = new Map<() => Promise<void>, string>()

/** A test that forgot to stop its app would otherwise keep the process of its file alive for ever. */
async function stopForgotten(): Promise<void> {
  for (const [stop, name] of runningApps) {
    process.stderr.write(`The test app "${name}" was not stopped. Call after(() => app.stop()), or use await using.\n`)
    await stop()
  }
}

/** The hooks of the file come after this module's own. */
const forgottenAfterMs = 1_000

const { env: environment } = process
if (environment.NODE_TEST_CONTEXT !== undefined) after(() => void afterMs(forgottenAfterMs, () => void stopForgotten()))

const replicaFolder = readSetting(settings.process.testReplica, { env: environment })
const replica = replicaFolder === undefined ? undefined : lateReplica(replicaFolder)
if (replica) watchTests()
const nodesFolder = readSetting(settings.process.testNodes, { env: environment })

const secret = 'the secret of all tests, which guards nothing'

let shared: { server: Promise<TestServer>; users: number } | undefined

/** The server that this run was given; otherwise one of this process, which stops with its last app. */
async function useServer(): Promise<{ url: string; leave(): Promise<void> }> {
  const given = givenServer(environment)
  if (given !== undefined) return { url: given, async leave() {} }
  shared ??= { server: startTestServer(), users: 0 }
  const mine = shared
  mine.users += 1
  async function leave(): Promise<void> {
    mine.users -= 1
    if (mine.users > 0) return
    shared = undefined
    await (await mine.server).stop()
  }
  try {
    return { url: (await mine.server).url, leave }
  } catch (error) {
    shared = undefined
    throw error
  }
}

async function setAhead({ data }: Running, ms: number): Promise<void> {
  await data.forModule(undefined).write((tx) => tx`update rung_clock.shift set ahead_ms = ${ms}`)
}

async function mailsIn(folder: string): Promise<TestMail[]> {
  const names = (await readdir(folder).catch(() => [])).filter((name) => name.endsWith('.eml')).sort()
  return Promise.all(
    names.map(async (name) => {
      const message = readMessage(await readFile(path.join(folder, name)))
      const header = (of: string) => message.headers.get(of) ?? ''
      return { from: header('from'), to: header('to'), subject: header('subject'), ...message }
    }),
  )
}

function noSignIn({ name }: App): RungError {
  return new RungError(
    'APP_INVALID',
    `"${name}" has no sessions with which a test could sign in. Give testApp a signIn that returns the headers of a user's requests, or write sessions: {} into defineApp.`,
  )
}

/** The last step first; each is taken, also when one before it failed. */
async function undoAll(steps: readonly (() => Promise<unknown>)[]): Promise<void> {
  const failures: unknown[] = []
  for (const step of [...steps].reverse()) await step().catch((error) => failures.push(error))
  if (failures.length > 0) throw failures[0]
}

function once(fn: () => Promise<void>): () => Promise<void> {
  let done: Promise<void> | undefined
  return () => {
    done ??= fn()
    return done
  }
}
