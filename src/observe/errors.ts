import { createHash } from 'node:crypto'
import type { FastifyRequest } from 'fastify'
import { every, systemClock } from '../kernel/clock.ts'
import { isRungError } from '../kernel/errors.ts'
import { isOwnRoute } from '../kernel/http-facts.ts'
import type { Scope } from '../kernel/scope.ts'
import type { Database } from '../primitives/data/contract.ts'
import type { DataRoot } from '../primitives/data/data.ts'
import type { Http } from '../primitives/http/contract.ts'
import { type RunDone, runDone } from '../primitives/jobs/channels.ts'
import { type ErrorGroup, errorUsersMax, saveErrors } from '../primitives/upkeep/errors.ts'
import { placeOfWork } from '../runtime/log.ts'
import { strayError } from '../runtime/stray-errors.ts'
import { type ErrorSample, fingerprintOf, sampleOf } from './error-shape.ts'
import { listen, listenUntilClose } from './listen.ts'
import { atRequestEnd } from './request-end.ts'

type Counted = Omit<ErrorGroup<ErrorSample>, 'release' | 'users'> & { users: Set<number> }

const writeEveryMs = 2_000
/** More groups of one process wait for nothing: those that came first are written first. */
const waitingMax = 200

interface Happened {
  error: unknown
  where: string
  scope?: Scope | undefined
}

/**
 * Groups the errors of requests, jobs and of what nobody waited for, and adds them to the table of errors: a few seconds later, and at the end. What
 * sheds load on purpose is no error, and neither is a route of Rung's own that says that the process is not ready.
 */
export function keepErrors(
  http: Http,
  data: DataRoot,
  { database, build, failed }: { database: Database; build: string | undefined; failed: (error: unknown) => void },
): void {
  const thrown = new WeakMap<FastifyRequest, unknown>()
  let waiting = new Map<string, Counted>()
  let writing: Promise<void> = Promise.resolve()

  http.addHook('onError', (request, _reply, error, done) => {
    thrown.set(request, error)
    done()
  })
  atRequestEnd(http, ({ request, scope, status }) => {
    if (status < 500) return
    const where = `${request.method} ${request.routeOptions.url ?? '(no route)'}`
    const error = thrown.get(request) ?? new Answered(status)
    const isNotReady = status === 503 && isOwnRoute(request.routeOptions.url ?? '') // while it starts or drains
    if (!isNotReady && !isRungError(error, 'HTTP_OVERLOADED')) add({ error, where, scope })
  })
  listen<RunDone>(http, data, runDone, ({ item, outcome, error, scope, kind }) => {
    if (outcome === 'retry' || outcome === 'dead') add({ error, where: `${kind} ${item.name}`, scope })
  })
  listenUntilClose(http, strayError, (error) => add({ error, where: 'outside of requests and jobs' }))

  function add({ error, where, scope }: Happened): void {
    const sample = sampleOf(error, where)
    const fingerprint = fingerprintOf(sample)
    const at = new Date(systemClock.now()).toISOString()
    const known = waiting.get(fingerprint)
    if (!known && waiting.size >= waitingMax) return
    const group = known ?? { fingerprint, firstAt: at, lastAt: at, count: 0, users: new Set(), sample }
    waiting.set(fingerprint, group)
    group.count += 1
    group.lastAt = at
    group.sample = { ...sample, ...placeOfWork(scope) }
    const id = scope?.principal?.id
    if (id !== undefined && group.users.size < errorUsersMax) group.users.add(digestOf(id))
  }

  async function write(): Promise<void> {
    if (waiting.size === 0) return
    const groups = [...waiting.values()].map((group) => ({ ...group, users: [...group.users] }))
    const before = waiting
    waiting = new Map()
    await saveErrors(database, build, groups).catch((error) => {
      failed(error)
      waiting = joined(before, waiting) // the next one tries again
    })
  }
  const flush = () => {
    writing = writing.then(write)
    return writing
  }
  const stop = every(writeEveryMs, flush)
  http.addHook('onClose', async () => {
    stop()
    await flush()
  })
}

/** An answer of the app itself: nothing was thrown. */
class Answered extends Error {
  constructor(status: number) {
    super(`The app answered ${status}`)
    this.name = `HTTP ${status}`
    this.stack = ''
  }
}

function joined(before: Map<string, Counted>, since: Map<string, Counted>): Map<string, Counted> {
  for (const [fingerprint, fresh] of since) {
    const known = before.get(fingerprint)
    if (!known && before.size >= waitingMax) continue
    const users = known?.users ?? new Set<number>()
    for (const user of fresh.users) if (users.size < errorUsersMax) users.add(user)
    const count = (known?.count ?? 0) + fresh.count
    before.set(fingerprint, { ...fresh, users, count, firstAt: known?.firstAt ?? fresh.firstAt })
  }
  return before
}

/** 32 bits are enough to tell a thousand users apart: one pair in ten thousand times looks equal. */
function digestOf(id: string): number {
  return createHash('sha256').update(id).digest().readInt32BE()
}
