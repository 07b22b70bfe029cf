import { SeverityNumber } from '@opentelemetry/api'
import { systemClock } from '../kernel/clock.ts'
import { currentScope } from '../kernel/scope.ts'
import type { Bindings } from '../topology/bindings.ts'
import { endOf, loadSdk } from './otel.ts'
import { contextOf } from './traces/otlp.ts'

export interface LogExport {
  /** Sends a copy of a line that the log writes now, as JSON, without its secrets. */
  write(line: string): void
  /** Sends what is left. */
  end(): Promise<void>
}

const severities: Readonly<Record<string, SeverityNumber>> = {
  trace: SeverityNumber.TRACE,
  debug: SeverityNumber.DEBUG,
  info: SeverityNumber.INFO,
  warn: SeverityNumber.WARN,
  error: SeverityNumber.ERROR,
  fatal: SeverityNumber.FATAL,
}

/**
 * Sends lines of the log by OTLP over HTTP to OTEL_EXPORTER_OTLP_LOGS_ENDPOINT, within the trace of their request or job. They wait in a queue of
 * 2,048; a collector that is slower or away loses lines, and standard output has all of them. The SDK is loaded only if the endpoint is set.
 * @throws CONFIG_INVALID if the SDK is not installed
 */
export async function exportLogs(
  { logsEndpoint, service }: Bindings['telemetry'],
  app: string,
): Promise<LogExport | undefined> {
  if (logsEndpoint === undefined) return undefined
  const { sdk, exporter, resources } = await loadLogSdk()
  const provider = new sdk.LoggerProvider({
    resource: resources.resourceFromAttributes({ 'service.name': service ?? app }),
    processors: [new sdk.BatchLogRecordProcessor({ exporter: new exporter.OTLPLogExporter() })],
  })
  const logger = provider.getLogger('rung')
  return {
    write(line) {
      // Fields of a line may be named like those of the log itself, which come first.
      const at = /"time":"([^"]+)"/.exec(line)?.[1]
      const { time, level, msg, name: _app, pid, hostname, err, ...others } = JSON.parse(line)
      const { name, message, stack, ...facts } = err ?? {}
      logger.emit({
        timestamp: timeOf(at ?? time),
        severityNumber: severities[level] ?? SeverityNumber.UNSPECIFIED,
        severityText: String(level),
        body: cut(msg ?? ''),
        attributes: {
          ...others,
          ...{ 'process.pid': pid, 'host.name': hostname },
          // Names of OpenTelemetry's semantic conventions.
          ...(err && {
            'exception.type': name,
            'exception.message': message,
            'exception.stacktrace': cut(stack ?? ''),
            error: facts,
          }),
        },
        context: contextOf(currentScope()?.traceparent),
      })
    },
    end: () => endOf(provider),
  }
}

function timeOf(text: unknown): Date {
  const time = new Date(String(text))
  return Number.isNaN(time.getTime()) ? new Date(systemClock.now()) : time // one wrong time would spoil the lines that are sent with it
}

/** 2,048 lines wait at most, so that they fit into memory. */
const charsMax = 16_384
const cut = (text: unknown) => String(text).slice(0, charsMax)

function loadLogSdk() {
  const packages = ['sdk-logs', 'exporter-logs-otlp-http', 'resources']
  return loadSdk('OTEL_EXPORTER_OTLP_LOGS_ENDPOINT', packages, async () => ({
    sdk: await import('@opentelemetry/sdk-logs'),
    exporter: await import('@opentelemetry/exporter-logs-otlp-http'),
    resources: await import('@opentelemetry/resources'),
  }))
}
