import { afterEach, beforeEach } from 'node:test'
import type { Data } from '../app/define-module.ts'
import { systemClock } from '../kernel/clock.ts'
import type { Place } from '../kernel/position.ts'
import { currentScope, runInScope, Scope } from '../kernel/scope.ts'
import type { Connection, Database, Need, Result, Statement } from '../primitives/data/contract.ts'
import { askPlace, placeIn } from '../primitives/data/place.ts'
import { ownerOf } from '../primitives/positions/positions.ts'
import type { BootOptions } from '../runtime/boot.ts'
import { mainDatabase, openDatabase, openPositions } from '../runtime/wire.ts'
import type { Actor } from './lag-report.ts'
import type { LateReplica } from './late-replica.ts'

interface Commit {
  place: Place
  /** When it was answered, ms on the monotonic clock. */
  at: number
  writer: Actor
}

/**
 * A test app whose reads go to a late replica, as far as they may. What the test itself arranges is past: the replica catches up
 *   - when the app has started, and before and after each test;
 *   - after statements that write outside of any request or job: `app.data(…).write`, `clock.advance`;
 *   - after `jobs.drain()`, and after a sign-in of the test's own.
 * It does so before the next request or job, so several of these cost one wait. What requests write afterwards is late.
 */
interface LateApp {
  readonly options: Required<Pick<BootOptions, 'openDatabase' | 'openPositions' | 'extensions'>>
  /** Of a principal whose session the test kit began: they have been here before, and their first read may be late. */
  visited(principal: string): void
  /** Time passes: before the next request the replica catches up. */
  letCatchUp(): void
  /** Resolves when it has. */
  settle(): Promise<void>
  /** Makes what a test looks at outside of requests the truth. */
  truthful<D extends Data>(data: D): D
  stop(): void
}

const apps = new Set<LateApp>()
const runningTests = new Set<string>()

/** From here on time passes between tests, and late reads are told with the names of those that run. */
export function watchTests(): void {
  const timePasses = () => {
    for (const app of apps) app.letCatchUp()
  }
  beforeEach((t) => {
    runningTests.add(nameOf(t))
    timePasses()
  })
  afterEach((t) => {
    runningTests.delete(nameOf(t))
    timePasses() // the hook of a suite may be next
  })
}

function nameOf(t: unknown): string {
  return (t as { fullName: string }).fullName
}

/** @param file of the tests */
export function lateApp(replica: LateReplica, file: string): LateApp {
  let main!: Database
  let commits: Commit[] = []
  /** What the replica shows at least. */
  let shown: Place | undefined
  let isDue = true
  let settling: Promise<void> | undefined
  const noted = new Set<string>()
  const visitors = new Set<string>()

  async function isRead(): Promise<boolean> {
    // It asks all servers where they are.
    await main.primaryShows('all', systemClock.ticks() + 5_000)?.catch(() => {})
    return main.servers().every(({ role, inRotation }) => role === 'primary' || inRotation)
  }

  async function catchUp(): Promise<void> {
    const place = await replica.catchUp(isRead)
    shown = place
    commits = commits.filter((commit) => commit.place > place)
  }

  function noteRead({ seen }: Result, startedAt: number): void {
    const scope = currentScope()
    // Reports do not say what they show.
    const lagMs = replica.lag === 'paused' ? Number.POSITIVE_INFINITY : replica.lag
    const isMissed = ({ place, at }: Commit) => (seen === undefined ? startedAt - at < lagMs : place > seen)
    const missed = scope && commits.findLast((commit) => commit.at <= startedAt && isMissed(commit))
    if (!missed) return
    const { writer, at } = missed
    const facts = { file, tests: [...runningTests], reader: actorOf(scope), writer }
    const key = JSON.stringify(facts)
    if (noted.has(key)) return
    noted.add(key)
    replica.note({ ...facts, afterMs: Math.round(startedAt - at) })
  }

  function noteWrite(statement: Statement, result: Result, inTransaction: boolean): void {
    const scope = currentScope()
    const isCommit = result.command === 'COMMIT' || !(inTransaction || readsOnly.test(result.command))
    if (scope === undefined && isCommit) isDue = true
    const place = scope && statement.name === askPlace.name ? placeIn(result) : undefined
    if (place !== undefined) commits.push({ place, at: systemClock.ticks(), writer: actorOf(scope!) })
  }

  function watched(connection: Connection, { target }: Need): Connection {
    if (target === 'own' || target === 'session') return connection
    async function note(statement: Statement, answer: Promise<Result>): Promise<Result> {
      const startedAt = systemClock.ticks()
      const result = await answer
      if (target === 'write') noteWrite(statement, result, connection.inTransaction)
      else noteRead(result, startedAt)
      return result
    }
    return {
      get inTransaction() {
        return connection.inTransaction
      },
      run: (statement) => note(statement, connection.run(statement)),
      runTogether: (statements) =>
        connection.runTogether(statements).map((answer, index) => note(statements[index]!, answer)),
      cancel: () => connection.cancel(),
      release: (broken) => connection.release(broken),
    }
  }

  const app: LateApp = {
    options: {
      openDatabase(data, connection, name) {
        const database = openDatabase(data, connection, name)
        if (!database.lags) return database
        main = database
        return {
          name: database.name,
          lags: true,
          connect: async (need) => watched(await database.connect(need), need),
          primaryShows: (place, deadlineAt) => database.primaryShows(place, deadlineAt),
          counts: (target) => database.counts(target),
          servers: () => database.servers(),
          close: () => database.close(),
        }
      },
      /** Without a record a session's first read would be one of the primary, and keep it there while the replica lags. */
      async openPositions(_data, redis) {
        const records = await openPositions({ engine: 'embedded' }, redis) // there is one process
        return {
          put: (owner, position) => records.put(owner, position),
          async find(owner) {
            const isVisitor = visitors.has(owner) && shown !== undefined
            return (await records.find(owner)) ?? (isVisitor ? new Map([[mainDatabase, shown!]]) : undefined)
          },
        }
      },
      extensions: [(http) => void http.addHook('onRequest', () => app.settle())],
    },
    visited: (principal) => void visitors.add(ownerOf('principal', principal)),
    letCatchUp() {
      isDue = true
    },
    async settle() {
      if (isDue) {
        isDue = false
        settling = catchUp()
      }
      await settling
    },
    truthful: (data) => ({
      ...data,
      read: (fn, options) => inTruth(() => data.read(fn, options)),
      batch(load) {
        const get = data.batch(load)
        return (key) => inTruth(() => get(key))
      },
    }),
    stop: () => void apps.delete(app),
  }
  apps.add(app)
  return app
}

const readsOnly = /^(SELECT|SHOW|EXPLAIN|BEGIN|START|ROLLBACK|SET|SAVEPOINT|RELEASE|)$/

function actorOf({ name, principal }: Scope): Actor {
  return { what: name, principal: principal?.id }
}

/** A reader of unknown position is shown everything. */
function inTruth<T>(fn: () => T): T {
  if (currentScope()) return fn()
  const scope = new Scope('task', 'test', 'test')
  scope.positionUnknown = true
  return runInScope(scope, fn)
}
