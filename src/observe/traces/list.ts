import { parseTraceparent } from '../../primitives/http/trace-context.ts'
import type { Unit } from './unit.ts'

/** A unit without its steps, as it leaves its process. */
export interface UnitSummary extends Omit<Unit, 'steps' | 'leftOut' | 'traceparent' | 'parent'> {
  readonly traceId: string
}

export interface UnitQuery {
  /** Text that the name contains, whatever its case. */
  readonly route?: string | undefined
  readonly slowMs?: number | undefined
  /** The outcome: `404`, or `5xx` for all that begin with 5. */
  readonly status?: string | undefined
  readonly failed?: boolean | undefined
  /** Traces, not units. */
  readonly last: number
}

/** All traces, or one of them by the beginning of its id. */
export type TracesQuery = { readonly id: string } | UnitQuery

/** What one process answers. */
export interface TracesAnswer<Found = unknown> {
  readonly units: readonly Found[]
  /** Units of the trace that are not returned, because there are more than `unitsMax`. */
  readonly leftOut: number
  /** Since then it keeps all of them, and before only a sample. Wall clock, ms; 0 if it has always kept all. */
  readonly allSince: number
}

/** One trace in a list: its first unit that was asked for. */
export interface TraceRow extends UnitSummary {
  /** The part of the fleet. */
  readonly process: string
  /** Further units that were asked for. */
  readonly others: number
}

export const traceIdOf = ({ traceparent }: Pick<Unit, 'traceparent'>): string => traceparent.slice(3, 35)

/** Returns the units that were asked for, of the newest traces, the newest first. */
export function listUnits(units: readonly Unit[], { route, slowMs, status, failed, last }: UnitQuery): UnitSummary[] {
  const name = route?.toLowerCase()
  const found = units.filter(
    (unit) =>
      (name === undefined || unit.name.toLowerCase().includes(name)) &&
      (slowMs === undefined || unit.ms >= slowMs) &&
      (status === undefined || isOutcome(unit.outcome, status)) &&
      (!failed || unit.failed),
  )
  found.sort((a, b) => b.startedAt - a.startedAt)
  const ids = new Set([...new Set(found.map(traceIdOf))].slice(0, last))
  const shown = found.filter((unit) => ids.has(traceIdOf(unit)))
  return shown.map(({ steps: _, leftOut: __, parent: ___, traceparent, ...facts }) => {
    return { traceId: traceIdOf({ traceparent }), ...facts }
  })
}

const isOutcome = (outcome: string, wanted: string) =>
  outcome === wanted || (/^\dxx$/.test(wanted) && /^\d{3}$/.test(outcome) && outcome[0] === wanted[0])

/** Joins what several processes have found by trace, the newest first. */
export function joinTraces(found: readonly (UnitSummary & { process: string })[], last: number): TraceRow[] {
  const byTrace = Map.groupBy(found, ({ traceId }) => traceId)
  const rows = [...byTrace.values()].map((units): TraceRow => {
    const first = units.reduce((a, b) => (b.startedAt < a.startedAt ? b : a))
    return { ...first, others: units.length - 1 }
  })
  return rows.sort((a, b) => b.startedAt - a.startedAt).slice(0, last)
}

/** Units of one trace that are returned: a caller may send all its requests in one trace. */
export const unitsMax = 100

/** Returns the newest units whose trace id begins so, and the number of further ones. */
export function findUnits(units: readonly Unit[], id: string): { units: Unit[]; leftOut: number } {
  const found = units.filter((unit) => traceIdOf(unit).startsWith(id))
  found.sort((a, b) => b.startedAt - a.startedAt)
  return { units: found.slice(0, unitsMax), leftOut: Math.max(0, found.length - unitsMax) }
}

/** Returns the id of the unit's own span, and of that above it. */
export function spanIdsOf({ traceparent, parent }: Pick<Unit, 'traceparent' | 'parent'>): {
  spanId: string
  parentId: string | undefined
} {
  return { spanId: traceparent.slice(36, 52), parentId: parseTraceparent(parent)?.spanId }
}
