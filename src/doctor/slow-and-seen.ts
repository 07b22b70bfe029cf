import type { Seen } from '../observe/seen.ts'
import type { Facts, Statement } from './facts.ts'
import { type Finding, formatNumber, formatShare, nothingToUndo } from './finding.ts'
import type { Plan } from './plan.ts'
import type { Thresholds } from './thresholds.ts'

/** Statements that are slow although no index would help, and what the app saw of itself. Pure. */

/**
 * @param plans how a statement is run, by its id
 * @param explained ids of statements that other findings speak of, or that are none of the app's
 */
export function slowStatements(
  { statements }: Facts,
  plans: ReadonlyMap<string, Plan>,
  explained: ReadonlySet<string>,
  limits: Thresholds,
): Finding[] {
  return statements
    .filter(({ id, calls }) => calls >= limits.examinedCalls && !explained.has(id))
    .filter((one) => one.meanMs >= limits.slowMs || (one.share >= limits.topShare && one.meanMs >= limits.topMeanMs))
    .map((statement) => slowFinding(statement, plans.get(statement.id), limits))
}

/** Who blocks whom, at this moment. */
const blockersSql = `select pid, pg_blocking_pids(pid) as blocked_by, wait_event_type, state, query
  from pg_stat_activity where wait_event_type = 'Lock' or state like 'idle in transaction%';`
const waitGain =
  'Its plan is cheap: it does not work for so long but waits, most likely for a row or table that another transaction has locked. See who blocks whom while it happens:'

function slowFinding(statement: Statement, plan: Plan | undefined, limits: Thresholds): Finding {
  const { calls, meanMs, totalMs, share, rows, text } = statement
  const waits = plan !== undefined && plan.cost < limits.costMin
  const cause = plan === undefined || waits ? '' : ` Most of its cost is: ${plan.heaviest}.`
  return {
    kind: 'slow-statement',
    severity: 'look',
    what:
      meanMs >= limits.slowMs
        ? `A statement takes ${formatNumber(meanMs)} ms on average.${cause}`
        : `One statement takes ${formatShare(share)} of the time of all.${cause}`,
    evidence: {
      calls,
      meanMs,
      totalMs,
      timeShare: share,
      rowsPerCall: rows / Math.max(1, calls),
      ...(waits && { planCost: plan.cost }),
    },
    gain: waits
      ? waitGain
      : 'No index that was tried helps: ask for fewer rows, keep a sum, or take it off the request. To see its plan:',
    sql: waits ? blockersSql : `explain (generic_plan) ${text.trim()};`,
    undo: nothingToUndo,
    statement: text,
  }
}

export function seenByApp(
  seen: readonly Seen[],
  { server, statements }: Facts,
  plans: ReadonlyMap<string, Plan>,
  limits: Thresholds,
): Finding[] {
  const since = Date.parse(server.now) - limits.seenSeconds * 1000
  const known = new Set(statements.filter(({ meanMs }) => meanMs >= limits.slowMs).map(({ text }) => inOneLine(text)))
  return seen
    .filter(({ at }) => Date.parse(at) >= since)
    .filter(({ kind, statement }) => kind !== 'slow' || !known.has(inOneLine(statement)))
    .map((entry) => {
      if (entry.kind === 'n-plus-one') return nPlusOne(entry)
      if (entry.kind === 'lock-wait') return gaveUpWaiting(entry)
      return slowInApp(entry, plans.get(entry.statement), limits)
    })
}

function nPlusOne({ statement, count, site, route, at }: Seen): Finding {
  return {
    kind: 'n-plus-one',
    severity: 'look',
    what: `${route} runs one statement again and again, at ${site}.`,
    evidence: { timesSeen: count, lastSeen: at },
    gain: 'One round trip to the database instead of one for each row: fetch the rows of all in one statement.',
    sql: '-- in the code: … where id = any($1), with the list of ids, instead of where id = $1 in a loop',
    undo: nothingToUndo,
    statement,
  }
}

function gaveUpWaiting({ statement, count, site, route, at, worstMs }: Seen): Finding {
  return {
    kind: 'lock-wait',
    severity: 'look',
    what: `${route || 'The app'} gave up waiting for a lock${placeOf(site)}.`,
    evidence: { timesSeen: count, ...(worstMs !== undefined && { waitedMs: worstMs }), lastSeen: at },
    gain: 'Another transaction keeps what this statement needs locked for too long: keep transactions short, and nothing but SQL in them. See who blocks whom while it happens:',
    sql: blockersSql,
    undo: nothingToUndo,
    statement,
  }
}

function slowInApp(entry: Seen, plan: Plan | undefined, limits: Thresholds): Finding {
  const { statement, count, site, route, at, worstMs } = entry
  const waits = plan !== undefined && plan.cost < limits.costMin
  const plannedAs = plan?.heaviest ?? entry.plan?.split('\n').find((line) => line.trim() !== '')
  return {
    kind: 'slow-statement',
    severity: 'look',
    what: `${route || 'The app'} waited for a slow statement${placeOf(site)}.`,
    evidence: {
      timesSeen: count,
      ...(worstMs !== undefined && { worstMs }),
      ...(waits && { planCost: plan.cost }),
      lastSeen: at,
    },
    gain: waits
      ? waitGain
      : plannedAs === undefined
        ? 'It is quick most of the time. To see its plan:'
        : `It is quick most of the time. Most of its cost is: ${plannedAs}. To see all of its plan:`,
    sql: waits ? blockersSql : `explain (generic_plan) ${statement.trim()};`,
    undo: nothingToUndo,
    statement,
  }
}

function placeOf(site: string): string {
  return site === '' || site === 'unknown' ? '' : `, at ${site}`
}

function inOneLine(text: string): string {
  return text.replace(/\s+/g, ' ').trim()
}
