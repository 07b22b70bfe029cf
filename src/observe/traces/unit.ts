/**
 * What one process did for a request, a run of a job or a delivery of an event. Units with the same trace id make a trace. It has names,
 * times and counts: never values of statements, query strings, paths with their values, headers, bodies or messages of errors.
 */
export interface Unit {
  readonly kind: UnitKind
  /** The method and route (`GET /api/articles/:slug`), or the name of the job or event. */
  readonly name: string
  readonly module: string
  /** W3C trace context: of the unit itself, and of what it came from. */
  readonly traceparent: string
  readonly parent: string | undefined
  /** Wall clock, ms. */
  readonly startedAt: number
  ms: number
  /** The status of a request; `done`, `retry`, `dead` and so on of a run. */
  outcome: string
  failed: boolean
  statements: number
  /** Reads through the cache, and those of them whose value came from no load of their own. */
  cacheReads: number
  cacheHits: number
  /** In the order in which they ended, at most `stepsMax`. */
  readonly steps: Step[]
  /** Steps that are not kept, because there were more. */
  leftOut: number
}

export type UnitKind = 'request' | 'job' | 'event'

/** A statement, a read through the cache, or an attempt to call another service. */
export interface Step {
  readonly kind: 'statement' | 'cache' | 'call'
  /** `SELECT`; the module and kind of the key; the service. */
  readonly name: string
  /** With `$1` where values were. */
  readonly text: string | undefined
  /** From the start of the unit, ms. */
  readonly atMs: number
  ms: number
  /** Waiting for a connection before, ms. */
  readonly waitMs: number
  readonly rows: number | undefined
  /** The code of an error; `memory`, `loaded` and so on. */
  readonly outcome: string | undefined
  readonly failed: boolean
  /** Reads of memory that followed each other are one step. */
  count: number
  /** Whether a load of the cache did it. */
  readonly inLoad: boolean
}

export const stepsMax = 200
/** Characters of one statement that are kept. */
export const textCharsMax = 2_000

export function newUnit(
  kind: UnitKind,
  name: string,
  module: string,
  traceparent: string,
  parent: string | undefined,
  startedAt: number,
): Unit {
  return {
    kind,
    name,
    module,
    traceparent,
    parent,
    startedAt,
    ms: 0,
    outcome: '',
    failed: false,
    statements: 0,
    cacheReads: 0,
    cacheHits: 0,
    steps: [],
    leftOut: 0,
  }
}

export function addStep(unit: Unit, step: Step): void {
  const { steps } = unit
  if (step.kind === 'statement') unit.statements += 1
  else if (step.kind === 'cache') {
    unit.cacheReads += 1
    if (hits.has(step.outcome!)) unit.cacheHits += 1
    const last = steps.at(-1)
    if (step.outcome === 'memory' && last?.outcome === 'memory' && last.name === step.name) {
      last.count += 1
      last.ms = step.atMs + step.ms - last.atMs
      return
    }
  }
  if (steps.length < stepsMax) steps.push(step)
  else unit.leftOut += 1
}

const hits = new Set(['memory', 'shared', 'grace', 'coalesced'])

/** Shortens a text without keeping the whole of it in memory, as V8's slice of a string does. */
export function kept(text: string): string {
  return text.length <= textCharsMax ? text : `${Buffer.from(text.slice(0, textCharsMax)).toString()}…`
}
