import type { App } from '../app/define-app.ts'
import { systemClock } from '../kernel/clock.ts'
import { messageOf } from '../kernel/errors.ts'
import { alertQueue } from '../runtime/alerts.ts'
import type { Extension } from '../runtime/boot.ts'
import type { Log } from '../runtime/log.ts'
import type { Primitives } from '../runtime/primitives.ts'
import { openAlertLease } from '../runtime/wire.ts'
import { nameOfProcess } from '../runtime/work.ts'
import type { AlertsBinding } from '../topology/bindings.ts'
import { keepAlerts, type WatchParts } from './alerts/keep.ts'
import { rulesOf } from './alerts/owners.ts'
import { titleOf, valueText } from './alerts/tell.ts'
import { cacheLog } from './cache-log.ts'
import { keepErrors } from './errors.ts'
import { Figures } from './figures.ts'
import { metrics } from './metrics.ts'
import { watchNPlusOne } from './n-plus-one.ts'
import { keepRecord, type RecordOptions, recorderParts } from './record/keep.ts'
import { requestLog } from './request-log.ts'
import { runLog } from './run-log.ts'
import { serverLog } from './servers.ts'
import { keepSightings, type SightingSink } from './sightings.ts'
import { watchSlowStatements } from './slow-statements.ts'
import type { TraceRing } from './traces/ring.ts'
import { watchTraces } from './traces/watch.ts'
import { webVitals } from './vitals.ts'

/** A statement is logged at most this often. */
const sameLineEveryMs = 60_000

export interface ObserveOptions extends Partial<Pick<RecordOptions, 'servers' | 'archiver'>> {
  /** Receives sightings instead of the database. */
  sightings?: SightingSink
  /** When the certificate of the entry ends. */
  certificateEndsAt?: () => Promise<number | undefined>
  /** Its alerts are evaluated, its users counted, and its pages measured. */
  app?: App
  /** Keeps what was done last. */
  traces?: TraceRing
}

/** Watches a running app: metrics, traces, log lines, the record. */
export function observe({
  sightings,
  servers = async () => [],
  app,
  certificateEndsAt,
  archiver,
  traces,
}: ObserveOptions = {}): Extension {
  return async (http, { data, log, bindings, primitives }) => {
    const notSaved = (error: unknown) =>
      log.debug({ event: 'report-failed', err: error }, 'what was seen of the app was not written')
    keepErrors(http, data, { database: primitives.stores.main.database, build: bindings.build, failed: notSaved })
    const seen = sightings ?? keepSightings(http, primitives.stores.main.database, notSaved)
    const figures = new Figures()
    const { backup, zone, role, dataDir } = bindings
    const observed = { ...primitives, backup, zone, role, dataDir, certificateEndsAt }
    const counters = metrics(http, data, observed, figures)
    if (bindings.record)
      keepRecord(
        http,
        recorderParts(figures, http, { data, primitives, log }, { servers, users: app?.users?.table, archiver }),
      )
    if (app) rulesOf(app) // a wrong name in defineApp is an error at every start, also where alerts are off
    if (app && bindings.alerts) keepAlerts(http, watchParts(app, bindings.alerts, primitives, log))
    if (app?.vitals) await webVitals(http, figures)
    watchTraces(http, data, traces)
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

function watchParts(app: App, told: AlertsBinding, primitives: Primitives, log: Log): WatchParts {
  const { database, queue } = primitives.stores.main
  return {
    ...{ node: nameOfProcess(), app: app.name, rules: rulesOf(app), database, queue, told },
    lease: openAlertLease(database),
    looked(_at, { changes }) {
      for (const { kind, alert, rule } of changes) {
        const facts = {
          event: `alert-${kind}`,
          alert: alert.rule,
          labels: JSON.parse(alert.labels),
          value: alert.value,
        }
        if (kind === 'ends') log.info(facts, `the alert ${titleOf(alert)} has ended`)
        else log.warn(facts, `the alert ${titleOf(alert)} fires: ${rule.summary}: ${valueText(rule, alert.value)}`)
      }
      const queues = new Set([alertQueue])
      if (changes.length > 0 && !primitives.worker?.wake(queues)) primitives.signals.send('jobs', queues)
    },
    trouble(error) {
      if (error === undefined) log.info({ event: 'alerts' }, 'alerts are evaluated again')
      else log.warn({ event: 'no-alerts', err: error }, `alerts could not be evaluated: ${messageOf(error)}`)
    },
  }
}
