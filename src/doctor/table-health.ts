import type { Facts, Server, Table } from './facts.ts'
import { type Finding, formatNumber, nothingToUndo } from './finding.ts'
import type { Thresholds } from './thresholds.ts'

/** Whether tables are cleaned up and known to the planner. Pure. */
export function tableHealth(facts: Facts, limits: Thresholds): Finding[] {
  const tables = facts.tables.filter(({ partitioned }) => !partitioned)
  const findings = tables.flatMap((table) => [
    // Vacuum also renews the statistics: one finding is enough.
    deadRows(table, facts.server, limits) ?? withoutStatistics(table, facts.server, limits),
    autovacuumOff(table),
  ])
  return [...findings.filter((finding) => finding !== undefined), ...wraparound(facts.server, tables, limits)]
}

/** Whether autovacuum has had time to run since it last did, or since anything is known. */
function isLate(
  table: Table,
  lastSeconds: number | null,
  { standby, statsSeconds }: Server,
  limits: Thresholds,
): boolean {
  const seconds = Math.min(lastSeconds ?? Number.POSITIVE_INFINITY, statsSeconds ?? Number.POSITIVE_INFINITY)
  return !standby && (!table.autovacuum || seconds >= limits.autovacuumSeconds)
}

function deadRows(table: Table, server: Server, limits: Thresholds): Finding | undefined {
  const { deadRows, liveRows, vacuumTrigger, vacuumedSeconds } = table
  const isMany = deadRows >= Math.max(limits.deadRows, limits.deadRowsFactor * vacuumTrigger)
  if (!isMany || !isLate(table, vacuumedSeconds, server, limits)) return undefined
  const cause = table.autovacuum ? ' A long transaction, a lock or too few workers hold it up.' : ''
  return {
    kind: 'dead-rows',
    severity: table.autovacuum ? 'look' : 'act',
    what: `${table.sql} has ${formatNumber(deadRows)} dead rows; autovacuum should have run at ${formatNumber(vacuumTrigger)}.${cause}`,
    evidence: {
      deadRows,
      liveRows,
      deadShare: deadRows / Math.max(1, deadRows + liveRows),
      sizeBytes: table.sizeBytes,
      ...(vacuumedSeconds !== null && { vacuumedSeconds }),
    },
    gain: 'Scans read less, and the space is used again. Vacuum blocks neither reads nor writes.',
    sql: `vacuum (analyze) ${table.sql};`,
    undo: nothingToUndo,
    table: table.sql,
  }
}

function withoutStatistics(table: Table, server: Server, limits: Thresholds): Finding | undefined {
  const { hasStatistics, changedRows, analyzeTrigger, analyzedSeconds } = table
  const isOld = changedRows >= Math.max(limits.statisticsRows, limits.deadRowsFactor * analyzeTrigger)
  const tableRows = Math.max(table.liveRows, table.rows)
  if (tableRows < limits.statisticsRows || (hasStatistics && !isOld)) return undefined
  if (!isLate(table, analyzedSeconds, server, limits)) return undefined
  return {
    kind: 'statistics-missing',
    severity: 'look',
    what: hasStatistics
      ? `The planner's statistics of ${table.sql} are old: ${formatNumber(changedRows)} rows have changed since.`
      : `${table.sql} was never analyzed: the planner guesses how many rows a condition finds.`,
    evidence: { tableRows, changedRows, ...(analyzedSeconds !== null && { analyzedSeconds }) },
    gain: 'Plans that fit the data. Analyze reads a sample and blocks nobody.',
    sql: `analyze ${table.sql};`,
    undo: nothingToUndo,
    table: table.sql,
  }
}

function autovacuumOff(table: Table): Finding | undefined {
  if (table.autovacuum) return undefined
  return {
    kind: 'autovacuum-off',
    severity: 'look',
    what: `Autovacuum is switched off for ${table.sql}: dead rows stay, and the planner's statistics get old.`,
    evidence: { deadRows: table.deadRows, liveRows: table.liveRows, tableWrites: table.writes },
    gain: 'Dead rows go and statistics stay fresh without anybody doing it by hand.',
    sql: `alter table ${table.sql} reset (autovacuum_enabled);`,
    undo: `alter table ${table.sql} set (autovacuum_enabled = false);`,
    table: table.sql,
  }
}

function wraparound(server: Server, tables: readonly Table[], limits: Thresholds): Finding[] {
  const { transactionAge, multixactAge } = server
  const age = Math.max(transactionAge, multixactAge)
  if (age < limits.wraparoundLook) return []
  const oldest = tables.toSorted((a, b) => b.transactionAge - a.transactionAge)[0]
  return [
    {
      kind: 'wraparound',
      severity: age >= limits.wraparoundAct ? 'act' : 'look',
      what: `The oldest row is ${formatNumber(age)} transactions old; at 2,146,000,000 Postgres refuses writes.`,
      evidence: { transactionAge, multixactAge },
      gain: 'Freezing old rows moves the limit away. Look also for what holds it up: a long transaction, an unused slot.',
      sql: `vacuum (freeze, verbose)${oldest ? ` ${oldest.sql}` : ''};`,
      undo: nothingToUndo,
      ...(oldest && { table: oldest.sql }),
    },
  ]
}
