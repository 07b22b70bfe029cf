import { type Random, systemRandom } from '../kernel/random.ts'
import { type StatementDone, statementDone } from '../primitives/data/channels.ts'
import type { DataRoot } from '../primitives/data/data.ts'
import type { Http } from '../primitives/http/contract.ts'
import { listen } from './listen.ts'
import { moduleOf } from './metrics.ts'
import { atRequestEnd } from './request-end.ts'
import { tallyOf } from './tally.ts'

export const slowRequestMs = 1_000

/** Whether a request is logged: failures and slow ones always, the rest as a sample. Pure. */
export function worthALine(status: number, durationMs: number, sample: number, random: Random): boolean {
  return status >= 500 || durationMs >= slowRequestMs || random() < sample
}

/** Logs a line at the end of a request, with its number of statements. No headers, no bodies, no query strings. */
export function requestLog(http: Http, data: DataRoot, sample: number, random: Random = systemRandom): void {
  listen<StatementDone>(http, data, statementDone, ({ scope, durationMs }) => {
    if (!scope) return
    const tally = tallyOf(scope)
    tally.statements += 1
    tally.statementMs += durationMs
  })
  atRequestEnd(http, ({ request, scope, status, durationMs }) => {
    if (request.routeOptions.logLevel === 'silent' || !worthALine(status, durationMs, sample, random)) return
    const tally = scope && tallyOf(scope)
    request.log[status >= 500 ? 'error' : 'info'](
      {
        requestId: scope?.id ?? request.id,
        traceparent: scope?.traceparent,
        method: request.method,
        route: request.routeOptions.url,
        module: moduleOf(request),
        status,
        ms: Math.round(durationMs * 10) / 10,
        statements: tally?.statements ?? 0,
        statementMs: Math.round((tally?.statementMs ?? 0) * 10) / 10,
      },
      'request',
    )
  })
}
