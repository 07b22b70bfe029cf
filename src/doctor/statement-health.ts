import type { Sighting } from '../observe/sighting-table.ts'
import type { Facts } from './facts.ts'
import { type Finding, formatNumber, formatShare, inOneLine, nothingToUndo } from './finding.ts'
import type { Plan } from './plan.ts'
import type { Thresholds } from './thresholds.ts'

/**
 * Statements that are slow although no index would help. Pure.
 * @param plans how a statement is run, by its id
 * @param explained ids of the statements that other findings name
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
    .map(({ id, calls, meanMs, totalMs, share, rows, text }) => {
      const plan = plans.get(id)
      const { waits, evidence, ...next } = nextStep(text, plan, limits)
      const cause = plan === undefined || waits ? '' : ` Most of its cost is: ${plan.heaviest}.`
      return {
        kind: 'slow-statement',
        severity: 'look',
        what:
          meanMs >= limits.slowMs
            ? `A statement takes ${formatNumber(meanMs)} ms on average.${cause}`
            : `One statement takes ${formatShare(share)} of the time of all statements.${cause}`,
        evidence: { calls, meanMs, totalMs, timeShare: share, rowsPerCall: rows / Math.max(1, calls), ...evidence },
        ...next,
        gain: waits
          ? next.gain
          : 'No index that was tried helps: ask for fewer rows, keep a sum, or take it off the request. To see its plan:',
        statement: text,
      }
    })
}

/** What the app saw while it ran. Pure. @param plans by the text of the statement */
export function seenByApp(
  seen: readonly Sighting[],
  { server, statements }: Facts,
  plans: ReadonlyMap<string, Plan>,
  limits: Thresholds,
): Finding[] {
  const since = Date.parse(server.now) - limits.seenSeconds * 1000
  const slow = new Set(statements.filter(({ meanMs }) => meanMs >= limits.slowMs).map(({ text }) => inOneLine(text)))
  return seen
    .filter(({ at }) => Date.parse(at) >= since)
    .filter(({ kind, statement }) => kind !== 'slow' || !slow.has(inOneLine(statement)))
    .map((entry) => seenFinding(entry, plans.get(entry.statement), limits))
}

function seenFinding(entry: Sighting, plan: Plan | undefined, limits: Thresholds): Finding {
  const { kind, statement, count, site, at, worstMs } = entry
  const place = site === '' || site === 'unknown' ? '' : `, at ${site}`
  const route = entry.route || 'The app'
  const common = { severity: 'look', undo: nothingToUndo, statement } as const
  if (kind === 'n-plus-one') {
    return {
      ...common,
      kind,
      what: `${route} runs one statement again and again${place}.`,
      evidence: { timesSeen: count, lastSeen: at },
      gain: 'One round trip to the database instead of one for each row: fetch all rows with one statement.',
      sql: '-- in the code: … where id = any($1), with the list of ids, instead of where id = $1 in a loop',
    }
  }
  if (kind === 'lock-wait') {
    return {
      ...common,
      kind,
      what: `${route} gave up waiting for a lock${place}.`,
      evidence: { timesSeen: count, ...(worstMs !== null && { waitedMs: worstMs }), lastSeen: at },
      gain: 'Another transaction keeps locked for too long what this statement needs: keep transactions short, with nothing but SQL in them. To see who blocks whom while it happens:',
      sql: blockersSql,
    }
  }
  const { waits, evidence, ...next } = nextStep(statement, plan, limits)
  const heaviest = plan?.heaviest ?? entry.plan?.split('\n').find((line) => line.trim() !== '')
  const cause = heaviest === undefined ? '' : ` Most of its cost is: ${heaviest}.`
  return {
    ...common,
    kind: 'slow-statement',
    what: `${route} waited for a slow statement${place}.`,
    evidence: { timesSeen: count, ...(worstMs !== null && { worstMs }), ...evidence, lastSeen: at },
    ...next,
    gain: waits ? next.gain : `It is quick most of the time.${cause} To see its plan:`,
  }
}

const blockersSql = `select pid, pg_blocking_pids(pid) as blocked_by, wait_event_type, state, query
  from pg_stat_activity where wait_event_type = 'Lock' or state like 'idle in transaction%';`

/** A slow statement with a cheap plan does not work but waits. */
function nextStep(text: string, plan: Plan | undefined, limits: Thresholds) {
  const waits = plan !== undefined && plan.cost < limits.costMin
  return {
    waits,
    evidence: { ...(waits && { planCost: plan.cost }) },
    gain: 'Its plan is cheap: it spends its time waiting, most likely for a row or table that another transaction has locked. To see who blocks whom while it happens:',
    sql: waits ? blockersSql : `explain (generic_plan) ${text.trim()};`,
    undo: nothingToUndo,
  }
}
