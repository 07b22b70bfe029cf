import {
  type Context,
  context,
  ProxyTracerProvider,
  ROOT_CONTEXT,
  type Span,
  SpanKind,
  SpanStatusCode,
  trace,
} from '@opentelemetry/api'
import type { FastifyRequest } from 'fastify'
import { systemClock } from '../../kernel/clock.ts'
import type { Scope } from '../../kernel/scope.ts'
import type { CacheReadDone } from '../../primitives/cache/channels.ts'
import type { StatementDone } from '../../primitives/data/channels.ts'
import { parseTraceparent } from '../../primitives/http/trace-context.ts'
import type { Item } from '../../primitives/jobs/items.ts'
import type { OutgoingDone } from '../../primitives/outgoing/outgoing.ts'
import type { Bindings } from '../../topology/bindings.ts'
import { endOf, loadSdk } from '../otel.ts'
import type { Unit } from './unit.ts'

/**
 * Spans for the OpenTelemetry SDK that the process has registered: Rung's own (`exportTraces`) or the app's. Without one none is created.
 * Names and attributes follow the OpenTelemetry semantic conventions 1.30, HTTP, database and messaging; what they have no word for begins
 * with `rung.`.
 */
export function enabled(): boolean {
  const provider = trace.getTracerProvider()
  return !(provider instanceof ProxyTracerProvider) || provider.getDelegateTracer('rung') !== undefined
}

const tracer = () => trace.getTracer('rung')

export function requestSpan(request: FastifyRequest): Span {
  const route = request.routeOptions.url ?? '(none)'
  return tracer().startSpan(
    `${request.method} ${route}`,
    {
      kind: SpanKind.SERVER,
      attributes: {
        'http.request.method': request.method,
        'http.route': route,
        'url.path': request.url.split('?', 1)[0]!,
        'server.address': request.host,
      },
    },
    contextOf(request.headers.traceparent),
  )
}

/** A run belongs to the trace in which it was enqueued or published. */
export function runSpan(item: Item): Span {
  return tracer().startSpan(
    `run ${item.name}`,
    {
      kind: SpanKind.CONSUMER,
      attributes: {
        'messaging.system': 'rung',
        'messaging.operation.name': 'process',
        'messaging.destination.name': item.queue,
        'messaging.message.id': String(item.id),
      },
    },
    contextOf(item.context?.traceparent),
  )
}

/** Lets the scope, and what it enqueues, be of the span. */
export function enter(span: Span, scope: Scope): void {
  if (span.isRecording()) scope.traceparent = tracecontextOf(span)
}

/** Runs `fn` so that spans of the app's own are below this one. */
export function within(span: Span, fn: () => void): void {
  context.with(trace.setSpan(context.active(), span), fn)
}

export function endRequestSpan(span: Span, status: number, unit: Unit | undefined): void {
  span.setAttribute('http.response.status_code', status)
  if (unit && unit.cacheReads > 0) {
    span.setAttribute('rung.cache.reads', unit.cacheReads)
    span.setAttribute('rung.cache.hits', unit.cacheHits)
  }
  if (status >= 500) span.setStatus({ code: SpanStatusCode.ERROR })
  span.end()
}

export function endRunSpan(span: Span, outcome: string, failed: boolean): void {
  span.setAttribute('rung.outcome', outcome)
  if (failed) span.setStatus({ code: SpanStatusCode.ERROR })
  span.end()
}

export function statementSpan(done: StatementDone, scope: Scope): void {
  const span = tracer().startSpan(
    done.command || 'statement',
    {
      kind: SpanKind.CLIENT,
      startTime: done.startedAt,
      attributes: {
        'db.system.name': 'postgresql',
        'db.query.text': done.statement.text,
        'db.operation.name': done.command,
        'db.response.returned_rows': done.rowCount,
        'rung.module': done.module ?? '',
        'rung.pool_wait_ms': done.waitMs,
      },
    },
    below(scope),
  )
  if (done.error) span.setStatus({ code: SpanStatusCode.ERROR, message: done.error.code })
  span.end(done.startedAt + done.durationMs)
}

/** Each app of the process hears these messages, and the SDK belongs to all of them. */
const told = new WeakSet<CacheReadDone | OutgoingDone>()

function isFirst(message: CacheReadDone | OutgoingDone): boolean {
  if (told.has(message)) return false
  told.add(message)
  return true
}

/** Reads of memory have no spans: they are counted at the request. */
export function cacheSpan(read: CacheReadDone): void {
  const { scope, module, group, outcome, durationMs } = read
  if (outcome === 'memory' || !isFirst(read)) return
  const now = systemClock.now()
  const span = tracer().startSpan(
    `cache ${module}/${group}`,
    {
      kind: SpanKind.INTERNAL,
      startTime: now - durationMs,
      attributes: { 'rung.module': module, 'rung.cache.group': group, 'rung.cache.outcome': outcome },
    },
    below(scope),
  )
  if (outcome === 'failed') span.setStatus({ code: SpanStatusCode.ERROR })
  span.end(now)
}

export function callSpan(done: OutgoingDone, scope: Scope): void {
  if (!isFirst(done)) return
  const { name, outcome, attempt, durationMs } = done
  const now = systemClock.now()
  const span = tracer().startSpan(
    `call ${name}`,
    {
      kind: SpanKind.CLIENT,
      startTime: now - durationMs,
      attributes: { 'peer.service': name, 'rung.outcome': outcome, 'rung.attempt': attempt },
    },
    below(scope),
  )
  if (outcome !== 'ok') span.setStatus({ code: SpanStatusCode.ERROR })
  span.end(now)
}

/** The active span if there is one, otherwise the scope's. */
function below(scope: Scope): Context | undefined {
  return trace.getActiveSpan() ? undefined : contextOf(scope.traceparent)
}

function tracecontextOf(span: Span): string {
  const { traceId, spanId, traceFlags } = span.spanContext()
  return `00-${traceId}-${spanId}-${traceFlags.toString(16).padStart(2, '0')}`
}

/** Returns the context of a `traceparent`; an empty one where there is none. */
export function contextOf(header: unknown): Context {
  const parent = parseTraceparent(header)
  if (!parent) return ROOT_CONTEXT
  return trace.setSpanContext(ROOT_CONTEXT, {
    traceId: parent.traceId,
    spanId: parent.spanId,
    traceFlags: Number.parseInt(parent.flags, 16),
    isRemote: true,
  })
}

/**
 * Exports spans by OTLP over HTTP to OTEL_EXPORTER_OTLP_ENDPOINT: the share OTEL_TRACES_SAMPLER_ARG (0 … 1, default 1) of the traces
 * that begin here, and all that the caller sampled. The SDK is loaded only if an endpoint is set.
 * @returns a function that sends the remaining spans and ends the export
 * @throws CONFIG_INVALID if the SDK is not installed
 */
export async function exportTraces(
  { endpoint, tracesEndpoint, sample, service }: Bindings['telemetry'],
  app: string,
): Promise<() => Promise<void>> {
  if (endpoint === undefined && tracesEndpoint === undefined) return async () => {}
  const { sdk, exporter, resources, contexts } = await loadTraceSdk()
  context.setGlobalContextManager(new contexts.AsyncLocalStorageContextManager().enable())
  const provider = new sdk.TracerProvider({
    resource: resources.resourceFromAttributes({ 'service.name': service ?? app }),
    sampler: new sdk.ParentBasedSampler({ root: new sdk.TraceIdRatioBasedSampler(sample) }),
    spanProcessors: [new sdk.BatchSpanProcessor({ exporter: new exporter.OTLPTraceExporter() })],
  })
  trace.setGlobalTracerProvider(provider)
  return () => endOf(provider)
}

function loadTraceSdk() {
  const packages = ['sdk-trace', 'exporter-trace-otlp-http', 'resources', 'context-async-hooks']
  return loadSdk('OTEL_EXPORTER_OTLP_ENDPOINT', packages, async () => ({
    sdk: await import('@opentelemetry/sdk-trace'),
    exporter: await import('@opentelemetry/exporter-trace-otlp-http'),
    resources: await import('@opentelemetry/resources'),
    contexts: await import('@opentelemetry/context-async-hooks'),
  }))
}
