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
import { currentScope } from '../kernel/scope.ts'
import { type StatementDone, statementDone } from '../primitives/data/channels.ts'
import type { DataRoot } from '../primitives/data/data.ts'
import type { Http } from '../primitives/http/contract.ts'
import { parseTraceparent } from '../primitives/http/trace-context.ts'
import { type RunBegin, type RunDone, runBegin, runDone } from '../primitives/jobs/channels.ts'
import type { Bindings } from '../topology/bindings.ts'
import { listen } from './listen.ts'
import { endOf, loadSdk } from './otel.ts'
import { atRequestEnd } from './request-end.ts'

/**
 * Creates spans for requests, statements and runs of jobs, for the OpenTelemetry SDK that the process has registered: Rung's own
 * (`exportTraces`) or the app's. Without one no span is created. Names and attributes follow the OpenTelemetry semantic
 * conventions 1.30, HTTP and database.
 */
export function traces(http: Http, data: DataRoot): void {
  const spans = new WeakMap<object, Span>()

  http.addHook('onRequest', (request, reply, done) => {
    if (!enabled()) return done()
    const route = request.routeOptions.url ?? '(none)'
    const span = trace.getTracer('rung').startSpan(
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
    spans.set(request, span)
    const scope = currentScope()
    if (scope && span.isRecording()) {
      scope.traceparent = tracecontextOf(span)
      reply.header('traceparent', scope.traceparent)
    }
    context.with(trace.setSpan(context.active(), span), done)
  })

  atRequestEnd(http, ({ request, status }) => {
    const span = spans.get(request)
    span?.setAttribute('http.response.status_code', status)
    if (status >= 500) span?.setStatus({ code: SpanStatusCode.ERROR })
    span?.end()
  })

  traceRuns(http, data, spans)

  listen<StatementDone>(http, data, statementDone, (done) => {
    if (!enabled() || !done.scope) return
    const active = trace.getActiveSpan() ? undefined : contextOf(done.scope.traceparent)
    const span = trace.getTracer('rung').startSpan(
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
      active,
    )
    if (done.error) span.setStatus({ code: SpanStatusCode.ERROR, message: done.error.code })
    span.end(done.startedAt + done.durationMs)
  })
}

/** A run belongs to the trace in which it was enqueued or published. */
function traceRuns(http: Http, data: DataRoot, spans: WeakMap<object, Span>): void {
  listen<RunBegin>(http, data, runBegin, ({ item, scope }) => {
    if (!enabled()) return
    const span = trace.getTracer('rung').startSpan(
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
    spans.set(scope, span)
    if (span.isRecording()) scope.traceparent = tracecontextOf(span)
  })
  listen<RunDone>(http, data, runDone, ({ scope, outcome }) => {
    const span = spans.get(scope)
    span?.setAttribute('rung.outcome', outcome)
    if (outcome === 'retry' || outcome === 'dead') span?.setStatus({ code: SpanStatusCode.ERROR })
    span?.end()
  })
}

function tracecontextOf(span: Span): string {
  const { traceId, spanId, traceFlags } = span.spanContext()
  return `00-${traceId}-${spanId}-${traceFlags.toString(16).padStart(2, '0')}`
}

function enabled(): boolean {
  const provider = trace.getTracerProvider()
  return !(provider instanceof ProxyTracerProvider) || provider.getDelegateTracer('rung') !== undefined
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
