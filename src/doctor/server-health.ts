import type { Facts, Gap, Session } from './facts.ts'
import {
  type Finding,
  formatSeconds,
  formatShare,
  inOneLine,
  literal,
  nothingToUndo,
  quoted,
  type Severity,
} from './finding.ts'
import type { Thresholds } from './thresholds.ts'

/** Connections, transactions, locks and settings; and what could not be examined. Pure. */
export function serverHealth(facts: Facts, limits: Thresholds): Finding[] {
  return [
    ...connections(facts, limits),
    ...facts.sessions.flatMap((session) => sessionHealth(session, facts.sessions, limits) ?? []),
    ...settings(facts),
    ...facts.gaps.map((gap) => blindSpot(gap, facts)),
  ]
}

function connections({ server }: Facts, limits: Thresholds): Finding[] {
  const { connectionsUsed: used, connectionsMax: max } = server
  if (used / max < limits.connectionsLook) return []
  return [
    {
      kind: 'connections',
      severity: used / max >= limits.connectionsAct ? 'act' : 'look',
      what: `${used} of ${max} connections are in use (${formatShare(used / max)}); beyond that, new ones are refused.`,
      evidence: { connectionsUsed: used, connectionsMax: max },
      gain: 'Lower the pools (RUNG_POOL_READ, RUNG_POOL_WRITE) or put a pooler in front. To see who holds them:',
      sql: 'select application_name, usename, state, count(*) from pg_stat_activity\n  group by 1, 2, 3 order by 4 desc;',
      undo: nothingToUndo,
    },
  ]
}

function sessionHealth(session: Session, all: readonly Session[], limits: Thresholds): Finding | undefined {
  const { pid, transactionSeconds, stateSeconds, waitSeconds, state, blockedBy } = session
  const subject = `Session ${pid}${session.application ? ` (${session.application})` : ''}`
  const query = inOneLine(session.query)
  const statement = query === '' ? {} : { statement: query }
  if (state?.startsWith('idle in transaction') && stateSeconds >= limits.idleInTransactionSeconds) {
    const waiting = all.filter((other) => other.blockedBy.includes(pid)).length
    return {
      kind: 'idle-in-transaction',
      severity: 'act',
      what: `${subject} has held a transaction open and done nothing for ${formatSeconds(stateSeconds)}.`,
      evidence: { pid: String(pid), idleSeconds: stateSeconds, transactionSeconds, sessionsWaiting: waiting },
      gain: 'Its locks go, and vacuum can remove dead rows again. Then find the code that waits inside a transaction.',
      sql: `select pg_terminate_backend(${pid});`,
      undo: '-- cannot be undone: the transaction is rolled back, its client gets an error',
      ...statement,
    }
  }
  if (waitSeconds >= limits.lockWaitSeconds && blockedBy.length > 0) {
    const blocker = all.find((other) => other.pid === blockedBy[0])
    return {
      kind: 'lock-wait',
      severity: 'act',
      what: `${subject} has waited for a lock of session ${blockedBy[0]} for ${formatSeconds(waitSeconds)}.`,
      evidence: {
        pid: String(pid),
        waitSeconds,
        blockedBy: blockedBy.join(', '),
        ...(blocker && { blockerState: blocker.state ?? 'unknown', blockerSeconds: blocker.transactionSeconds }),
      },
      gain: 'The waiting session continues, and so do those behind it.',
      sql: `select pg_cancel_backend(${blockedBy[0]});`,
      undo: '-- cannot be undone: the statement of the blocking session fails',
      ...statement,
    }
  }
  if (state !== 'active' || transactionSeconds < limits.transactionSeconds) return undefined
  return {
    kind: 'long-transaction',
    severity: 'look',
    what: `${subject} has had a transaction running for ${formatSeconds(transactionSeconds)}.`,
    evidence: { pid: String(pid), transactionSeconds },
    gain: 'Vacuum can remove no row that died since the transaction began; its locks last as long.',
    sql: `select pg_cancel_backend(${pid});`,
    undo: '-- cannot be undone: the statement fails and must be run again',
    ...statement,
  }
}

/** Settings that must not be off. */
const mustBeOn: [name: string, severity: Severity, why: string][] = [
  ['fsync', 'act', 'A power failure destroys the database.'],
  ['full_page_writes', 'act', 'A power failure can leave torn pages behind.'],
  ['autovacuum', 'act', 'Dead rows and old transaction ids pile up until writes stop.'],
  ['track_counts', 'act', 'Autovacuum does not see what it has to do.'],
  ['synchronous_commit', 'look', 'A crash loses commits that were acknowledged.'],
]

function settings({ settings }: Facts): Finding[] {
  return mustBeOn
    .filter(([name]) => settings[name] === 'off')
    .map(([name, severity, why]) => ({
      kind: 'setting',
      severity,
      what: `${name} is off.`,
      evidence: { [name]: 'off' },
      gain: why,
      sql: `alter system set ${name} = on; select pg_reload_conf();`,
      undo: `alter system set ${name} = off; select pg_reload_conf();`,
    }))
}

function blindSpot({ about, reason }: Gap, { server, settings }: Facts): Finding {
  const libraries = (settings.shared_preload_libraries ?? '').split(/[,\s]+/).filter(Boolean)
  const preload = [...libraries, 'pg_stat_statements'].map(literal).join(', ')
  const remedies: Record<Gap['about'], Pick<Finding, 'severity' | 'what' | 'gain' | 'sql' | 'undo'>> = {
    statements: {
      severity: 'look',
      what: `Statements cannot be seen: ${reason}.`,
      gain: 'Slow statements are found, and indexes are advised from what the app really runs.',
      sql: libraries.includes('pg_stat_statements')
        ? 'create extension if not exists pg_stat_statements;'
        : `alter system set shared_preload_libraries = ${preload};\n-- restart the server, then:\ncreate extension if not exists pg_stat_statements;`,
      undo: 'drop extension pg_stat_statements;',
    },
    privileges: {
      severity: 'look',
      what: `The role ${server.role} may not do everything: ${reason}.`,
      gain: 'Sessions and statements of other roles are examined too.',
      sql: `grant pg_monitor to ${quoted(server.role)};`,
      undo: `revoke pg_monitor from ${quoted(server.role)};`,
    },
    catalog: {
      severity: 'look',
      what: `A part of the catalog could not be read: ${reason}.`,
      gain: 'Findings about it are missing above. Run the doctor again in a quiet moment.',
      sql: '-- rung doctor',
      undo: nothingToUndo,
    },
    verification: {
      severity: 'note',
      what: `Not every index could be tried: ${reason}.`,
      gain: 'What was not tried is not advised.',
      sql: '-- nothing to run',
      undo: nothingToUndo,
    },
  }
  return { kind: 'blind-spot', evidence: {}, ...remedies[about] }
}
