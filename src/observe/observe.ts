import { systemClock } from '../kernel/clock.ts'
import type { Extension } from '../runtime/boot.ts'
import { cacheLog } from './cache-log.ts'
import { keepErrors } from './errors.ts'
import { Figures } from './figures.ts'
import { metrics } from './metrics.ts'
import { watchNPlusOne } from './n-plus-one.ts'
import { keepRecord, type RecordOptions, recorderParts } from './record/keep.ts'
import { requestLog } from './request-log.ts'
import { runLog } from './run-log.ts'
import { serverLog } from './servers.ts'
import { keepSightings, type Sightings } from './sightings.ts'
import { watchSlowStatements } from './slow-statements.ts'
import { traces } from './traces.ts'

/** A statement is logged at most this often. */
const sameLineEveryMs = 60_000

export interface ObserveOptions extends Partial<RecordOptions> {
  /** What is found is passed to them, instead of being kept for the doctor. */
  sightings?: Sightings
}

/** Watches a running app: metrics, traces, log lines, the record. */
export function observe({ sightings, servers = async () => [], users }: ObserveOptions = {}): Extension {
  return (http, { data, log, bindings, primitives }) => {
    const notSaved = (error: unknown) =>
      log.debug({ event: 'report-failed', err: error }, 'what was seen of the app was not written')
    keepErrors(http, data, { database: primitives.stores.main.database, build: bindings.build, failed: notSaved })
    const seen = sightings ?? keepSightings(http, primitives.stores.main.database, notSaved)
    const figures = new Figures()
    const { backup, zone, role } = bindings
    const counters = metrics(http, data, { ...primitives, backup, zone, role }, figures)
    if (bindings.record)
      keepRecord(http, recorderParts(figures, http, { data, primitives, bindings, log }, { servers, users }))
    traces(http, data)
    requestLog(http, data, bindings.log.sample)
    runLog(http, data, log)
    cacheLog(http, data, log)
    serverLog(http, data, log)
    const fresh = oncePer(sameLineEveryMs)
    watchSlowStatements(http, data, (slow) => {
      counters.slowStatements.inc({ module: slow.module ?? '' })
      seen.slow(slow)
      if (slow.plan === undefined && !fresh(slow.statement)) return
      log.warn(
        { event: 'slow-statement', ...slow },
        slow.lockTimeout
          ? `a statement gave up waiting for a lock after ${Math.round(slow.durationMs)} ms (in ${slow.name ?? 'no scope'})`
          : `a statement took ${Math.round(slow.durationMs)} ms (in ${slow.name ?? 'no scope'})`,
      )
    })
    watchNPlusOne(http, data, (found) => {
      counters.nPlusOne.inc({ route: found.name })
      seen.nPlusOne(found)
      if (fresh(found.site + found.statement)) {
        log.warn(
          { event: 'n-plus-one', ...found },
          `${found.name} runs one statement again and again, at ${found.site}. Fetch the rows in one statement.`,
        )
      }
    })
  }
}

function oncePer(ms: number): (key: string) => boolean {
  const last = new Map<string, number>()
  return (key) => {
    const now = systemClock.ticks()
    if (now - (last.get(key) ?? Number.NEGATIVE_INFINITY) < ms) return false
    if (last.size > 1_000) last.clear()
    last.set(key, now)
    return true
  }
}
