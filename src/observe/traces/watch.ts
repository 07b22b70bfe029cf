import type { Span } from '@opentelemetry/api'
import type { FastifyRequest } from 'fastify'
import { systemClock } from '../../kernel/clock.ts'
import { currentScope, type Scope } from '../../kernel/scope.ts'
import { type CacheReadDone, cacheReadDone } from '../../primitives/cache/channels.ts'
import { type StatementDone, statementDone } from '../../primitives/data/channels.ts'
import type { DataRoot } from '../../primitives/data/data.ts'
import type { Http } from '../../primitives/http/contract.ts'
import { childOf, parseTraceparent } from '../../primitives/http/trace-context.ts'
import { type RunBegin, type RunDone, runBegin, runDone } from '../../primitives/jobs/channels.ts'
import { type OutgoingDone, outgoingDone } from '../../primitives/outgoing/outgoing.ts'
import { listen, listenUntilClose } from '../listen.ts'
import { moduleOf } from '../metrics.ts'
import { atRequestEnd } from '../request-end.ts'
import { tallyOf } from '../tally.ts'
import * as otlp from './otlp.ts'
import { isNotable, type TraceRing } from './ring.ts'
import { addStep, kept, newUnit, type Step, type Unit } from './unit.ts'

interface Open {
  readonly unit: Unit
  /** On the monotonic clock, ms. */
  readonly start: number
}

/**
 * Watches requests, runs, statements, reads through the cache and calls to other services, once for both who want them: the ring, from
 * which `rung traces` reads, and the OpenTelemetry SDK, if the process has registered one.
 */
export function watchTraces(http: Http, data: DataRoot, ring: TraceRing | undefined): void {
  /** By the trace context of their scopes, which is unique. A load of the cache has that of the reader who began it. */
  const open = new Map<string, Open>()
  const begin: Begin = ({ traceparent }, kind, name, module, parent) => {
    if (!ring || traceparent === undefined) return
    const start = systemClock.ticks()
    if (!ring.wants(traceparent, start)) return
    open.set(traceparent, { unit: newUnit(kind, name, module, traceparent, parent, systemClock.now()), start })
  }
  const openOf = ({ traceparent }: Scope): Open | undefined =>
    open.size === 0 || traceparent === undefined ? undefined : open.get(traceparent)
  const end: End = (scope, kind, name, module, parent, ms, outcome, failed) => {
    if (!ring || scope?.traceparent === undefined) return undefined
    let unit = openOf(scope)?.unit
    if (!unit) {
      if (!isNotable(kind, ms, failed)) return undefined
      unit = newUnit(kind, name, module, scope.traceparent, parent, systemClock.now() - ms)
      unit.statements = unit.leftOut = tallyOf(scope).statements
    }
    open.delete(unit.traceparent)
    unit.ms = ms
    unit.outcome = outcome
    unit.failed = failed
    ring.add(unit)
    return unit
  }
  watchRequests(http, begin, end)
  watchRuns(http, data, begin, end)
  watchSteps(http, data, openOf)
}

/** Of a valid one. A client may send anything, and what is longer must not be kept. */
const traceparentChars = 55

type About = [kind: Unit['kind'], name: string, module: string, parent: string | undefined]
type Begin = (scope: Scope, ...about: About) => void
type End = (
  scope: Scope | undefined,
  ...ended: [...About, ms: number, outcome: string, failed: boolean]
) => Unit | undefined

function watchRequests(http: Http, begin: Begin, end: End): void {
  const spans = new WeakMap<object, Span>()
  const isQuiet = (request: FastifyRequest) => request.routeOptions.logLevel === 'silent'
  const parentOf = ({ headers: { traceparent } }: FastifyRequest) =>
    typeof traceparent === 'string' && traceparent.length === traceparentChars ? traceparent : undefined
  http.addHook('onRequest', (request, reply, done) => {
    const scope = currentScope()
    const span = otlp.enabled() ? otlp.requestSpan(request) : undefined
    if (span) {
      spans.set(request, span)
      if (scope) {
        otlp.enter(span, scope)
        reply.header('traceparent', scope.traceparent)
      }
    }
    if (scope && !isQuiet(request)) begin(scope, 'request', scope.name, moduleOf(request), parentOf(request))
    if (span) otlp.within(span, done)
    else done()
  })
  atRequestEnd(http, ({ request, scope, status, durationMs }) => {
    const about: About = ['request', scope?.name ?? '', moduleOf(request), parentOf(request)]
    const unit = isQuiet(request) ? undefined : end(scope, ...about, durationMs, String(status), status >= 500)
    const span = spans.get(request)
    if (span) otlp.endRequestSpan(span, status, unit)
  })
}

function watchRuns(http: Http, data: DataRoot, begin: Begin, end: End): void {
  const spans = new WeakMap<Scope, Span>()
  const kindOf = ({ kind }: Scope) => (kind === 'event' ? 'event' : 'job')
  listen<RunBegin>(http, data, runBegin, ({ item, scope }) => {
    const parent = item.context?.traceparent
    scope.traceparent = childOf(parseTraceparent(parent)) // of its own, below what has enqueued it
    if (otlp.enabled()) {
      const span = otlp.runSpan(item)
      spans.set(scope, span)
      otlp.enter(span, scope)
    }
    begin(scope, kindOf(scope), item.name, '', parent)
  })
  listen<RunDone>(http, data, runDone, ({ item, scope, outcome, durationMs }) => {
    const failed = outcome === 'retry' || outcome === 'dead'
    end(scope, kindOf(scope), item.name, '', item.context?.traceparent, durationMs, outcome, failed)
    const span = spans.get(scope)
    if (span) otlp.endRunSpan(span, outcome, failed)
  })
}

function watchSteps(http: Http, data: DataRoot, openOf: (scope: Scope) => Open | undefined): void {
  listen<StatementDone>(http, data, statementDone, (done) => {
    const { scope, durationMs, statement, error, command } = done
    if (!scope) return
    if (otlp.enabled()) otlp.statementSpan(done, scope)
    const found = openOf(scope)
    if (!found) return
    addStep(found.unit, {
      kind: 'statement',
      name: command || 'statement',
      text: kept(statement.text),
      atMs: startOf(found, durationMs),
      ms: durationMs,
      waitMs: done.waitMs,
      rows: done.rowCount,
      outcome: error?.code,
      failed: error !== undefined,
      count: 1,
      inLoad: scope.kind === 'task',
    })
  })
  listenUntilClose(http, cacheReadDone, (message) => {
    const read = message as CacheReadDone
    const { scope, durationMs, outcome } = read
    if (otlp.enabled() && scope.traceparent !== undefined) otlp.cacheSpan(read)
    const found = openOf(scope)
    if (!found) return
    const name = `${read.module}/${read.group}`
    addStep(found.unit, plainStep('cache', name, found, durationMs, outcome, outcome === 'failed', scope))
  })
  listenUntilClose(http, outgoingDone, (message) => {
    const scope = currentScope()
    if (!scope) return
    const done = message as OutgoingDone
    if (otlp.enabled()) otlp.callSpan(done, scope)
    const found = openOf(scope)
    if (!found) return
    const { name, durationMs, outcome } = done
    addStep(found.unit, plainStep('call', name, found, durationMs, outcome, outcome !== 'ok', scope))
  })
}

/** Messages come when something has ended. */
function startOf({ start }: Open, durationMs: number): number {
  return systemClock.ticks() - durationMs - start
}

/** One literal for each kind, with all fields in one order: V8 then shares their shape, and a spread would cost more than the rest. */
function plainStep(
  kind: 'cache' | 'call',
  name: string,
  found: Open,
  ms: number,
  outcome: string,
  failed: boolean,
  scope: Scope,
): Step {
  return {
    kind,
    name,
    text: undefined,
    atMs: startOf(found, ms),
    ms,
    waitMs: 0,
    rows: undefined,
    outcome,
    failed,
    count: 1,
    inLoad: scope.kind === 'task',
  }
}
