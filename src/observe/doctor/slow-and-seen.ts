import type { Facts, Statement } from './facts.ts'
import { type Finding, formatNumber, formatShare, nothingToUndo } from './finding.ts'
import type { Seen } from './seen.ts'
import type { Thresholds } from './thresholds.ts'

/** Statements that are slow although no index would help, and what the app saw of itself. Pure. */

/**
 * @param heaviest what costs most in a statement's plan, by its id
 * @param explained ids of statements that other findings speak of, or that are none of the app's
 */
export function slowStatements(
  { statements }: Facts,
  heaviest: ReadonlyMap<string, string>,
  explained: ReadonlySet<string>,
  limits: Thresholds,
): Finding[] {
  return statements
    .filter(({ id, calls }) => calls >= limits.examinedCalls && !explained.has(id))
    .filter((one) => one.meanMs >= limits.slowMs || (one.share >= limits.topShare && one.meanMs >= limits.topMeanMs))
    .map((statement) => slowFinding(statement, heaviest.get(statement.id), limits))
}

function slowFinding(statement: Statement, heaviest: string | undefined, limits: Thresholds): Finding {
  const { calls, meanMs, totalMs, share, rows, text } = statement
  const cause = heaviest === undefined ? '' : ` Most of its cost is: ${heaviest}.`
  return {
    kind: 'slow-statement',
    severity: 'look',
    what:
      meanMs >= limits.slowMs
        ? `A statement takes ${formatNumber(meanMs)} ms on average.${cause}`
        : `One statement takes ${formatShare(share)} of the time of all.${cause}`,
    evidence: { calls, meanMs, totalMs, timeShare: share, rowsPerCall: rows / Math.max(1, calls) },
    gain: 'No index that was tried helps: ask for fewer rows, keep a sum, or take it off the request. Its plan:',
    sql: `explain (generic_plan) ${text.trim()};`,
    undo: nothingToUndo,
    statement: text,
  }
}

export function seenByApp(seen: readonly Seen[], { server, statements }: Facts, limits: Thresholds): Finding[] {
  const since = Date.parse(server.now) - limits.seenSeconds * 1000
  const known = new Set(statements.filter(({ meanMs }) => meanMs >= limits.slowMs).map(({ text }) => inOneLine(text)))
  return seen
    .filter(({ at }) => Date.parse(at) >= since)
    .filter(({ kind, statement }) => kind === 'n-plus-one' || !known.has(inOneLine(statement)))
    .map((entry) => (entry.kind === 'n-plus-one' ? nPlusOne(entry) : slowInApp(entry)))
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

function slowInApp({ statement, count, site, route, at, worstMs, plan }: Seen): Finding {
  return {
    kind: 'slow-statement',
    severity: 'look',
    what: `${route} waited for a slow statement${site === '' || site === 'unknown' ? '' : `, at ${site}`}.`,
    evidence: { timesSeen: count, ...(worstMs !== undefined && { worstMs }), lastSeen: at },
    gain: plan === undefined ? 'Its plan:' : `It is quick most of the time. Its plan begins: ${plan.split('\n')[0]}`,
    sql: `explain (generic_plan) ${statement.trim()};`,
    undo: nothingToUndo,
    statement,
  }
}

function inOneLine(text: string): string {
  return text.replace(/\s+/g, ' ').trim()
}
