import type { Facts, Server, Table } from './facts.ts'
import { type Finding, formatNumber, literal, nothingToUndo } from './finding.ts'
import type { Thresholds } from './thresholds.ts'

/** Whether tables are cleaned up, known to the planner, and read through their indexes. Pure. */

type Check = (table: Table, facts: Facts, limits: Thresholds) => Finding | undefined

/** @param advised tables for which an index is advised already: that they are read in full is said by that */
export function tableHealth(facts: Facts, limits: Thresholds, advised: ReadonlySet<string>): Finding[] {
  const checks: Check[] = [neglected, bloated, autovacuumOff, fullScans]
  const ofTables = facts.tables
    .filter((table) => !table.partitioned)
    .flatMap((table) => checks.flatMap((check) => check(table, facts, limits) ?? []))
  const told = ofTables.filter((finding) => finding.kind !== 'full-scans' || !advised.has(finding.table!))
  return [...told, ...wraparound(facts, limits)]
}

/** Whether autovacuum has had time to come by since it last did, or since anything is known. */
function isLate(
  table: Table,
  lastSeconds: number | null,
  { standby, statsSeconds }: Server,
  limits: Thresholds,
): boolean {
  const seconds = Math.min(lastSeconds ?? Number.POSITIVE_INFINITY, statsSeconds ?? Number.POSITIVE_INFINITY)
  return !standby && (!table.autovacuum || seconds >= limits.autovacuumSeconds)
}

const deadRows: Check = (table, { server }, limits) => {
  const { deadRows, liveRows, vacuumTrigger, vacuumedSeconds } = table
  const isMany = deadRows >= Math.max(limits.deadRows, limits.deadRowsFactor * vacuumTrigger)
  if (!isMany || !isLate(table, vacuumedSeconds, server, limits)) return undefined
  const holder = table.autovacuum ? ' A long transaction, a lock or too few workers hold it up.' : ''
  return {
    kind: 'dead-rows',
    severity: table.autovacuum ? 'look' : 'act',
    what: `${table.sql} has ${formatNumber(deadRows)} dead rows; autovacuum should have come at ${formatNumber(vacuumTrigger)}.${holder}`,
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

/** What removes dead rows looks at the others as well: one finding is enough. */
const neglected: Check = (...known) => deadRows(...known) ?? withoutStatistics(...known)

const rowHeaderBytes = 24 + 4 + 4 // header, its pointer in the page, and about half of a word lost to alignment
const pageShare = 0.97 // what of a page is left for rows

const bloated: Check = (table, _facts, limits) => {
  const { heapBytes, rows, columns, fillfactor, hasStatistics } = table
  if (!hasStatistics || heapBytes < limits.bloatBytes) return undefined
  const rowBytes = rowHeaderBytes + columns.reduce((sum, { width }) => sum + width, 0)
  const neededBytes = (rows * rowBytes) / pageShare / (fillfactor / 100)
  const emptyBytes = heapBytes - neededBytes
  if (emptyBytes < limits.bloatBytes || emptyBytes / heapBytes < limits.bloatShare) return undefined
  return {
    kind: 'bloated-table',
    severity: 'look',
    what: `${table.sql} takes much more space than its rows need; this is an estimate from average widths.`,
    evidence: { sizeBytes: heapBytes, emptyBytes, emptyShare: emptyBytes / heapBytes, tableRows: rows },
    gain: 'Less to read and to keep in memory. New rows fill the space in time; only if that is too slow, rewrite the table.',
    sql: `-- stops reads and writes of the table while it runs; pg_repack does it online\nvacuum (full, analyze) ${table.sql};`,
    undo: nothingToUndo,
    table: table.sql,
  }
}

const withoutStatistics: Check = (table, { server }, limits) => {
  const { hasStatistics, changedRows, analyzeTrigger, analyzedSeconds } = table
  const isOld = changedRows >= Math.max(limits.statisticsRows, limits.deadRowsFactor * analyzeTrigger)
  const size = Math.max(table.liveRows, table.rows)
  if (size < limits.statisticsRows || (hasStatistics && !isOld)) return undefined
  if (!isLate(table, analyzedSeconds, server, limits)) return undefined
  return {
    kind: 'statistics-missing',
    severity: 'look',
    what: hasStatistics
      ? `The planner's picture of ${table.sql} is old: ${formatNumber(changedRows)} rows have changed since.`
      : `${table.sql} was never analyzed: the planner guesses how many rows a condition finds.`,
    evidence: {
      tableRows: size,
      changedRows,
      ...(analyzedSeconds !== null && { analyzedSeconds }),
    },
    gain: 'Plans that fit the data. Analyze reads a sample and blocks nobody.',
    sql: `analyze ${table.sql};`,
    undo: nothingToUndo,
    table: table.sql,
  }
}

const autovacuumOff: Check = (table) => {
  if (table.autovacuum) return undefined
  return {
    kind: 'autovacuum-off',
    severity: 'look',
    what: `Autovacuum is switched off for ${table.sql}: dead rows stay and the planner's picture gets old.`,
    evidence: { deadRows: table.deadRows, liveRows: table.liveRows, tableWrites: table.writes },
    gain: 'Dead rows go and statistics stay fresh without anybody doing it by hand.',
    sql: `alter table ${table.sql} reset (autovacuum_enabled);`,
    undo: `alter table ${table.sql} set (autovacuum_enabled = false);`,
    table: table.sql,
  }
}

const fullScans: Check = (table, { server }, limits) => {
  const { fullScans: scans, fullScanRows, heapBytes } = table
  const rowsPerScan = fullScanRows / Math.max(1, scans)
  if (scans < limits.fullScans || heapBytes < limits.fullScanBytes || rowsPerScan < limits.fullScanRows)
    return undefined
  return {
    kind: 'full-scans',
    severity: 'look',
    what: `${table.sql} is read from end to end again and again, and no index that was tried would change that.`,
    evidence: {
      fullScans: scans,
      rowsPerScan,
      indexScans: table.indexScans,
      sizeBytes: heapBytes,
      ...(server.statsSeconds !== null && { statsSeconds: server.statsSeconds }),
    },
    gain: 'Find who does it: a report may be right to; a request should ask for fewer rows, or keep a sum.',
    sql: `select calls, mean_exec_time, query from pg_stat_statements\n  where query ilike ${literal(`%${table.name}%`)} order by total_exec_time desc limit 10;`,
    undo: nothingToUndo,
    table: table.sql,
  }
}

function wraparound({ server, tables }: Facts, limits: Thresholds): Finding[] {
  const age = Math.max(server.transactionAge, server.multixactAge)
  if (age < limits.wraparoundLook) return []
  const oldest = tables.filter(({ partitioned }) => !partitioned).sort((a, b) => b.transactionAge - a.transactionAge)[0]
  return [
    {
      kind: 'wraparound',
      severity: age >= limits.wraparoundAct ? 'act' : 'look',
      what: `The oldest row is ${formatNumber(age)} transactions old; at 2,146,000,000 Postgres takes no more writes.`,
      evidence: { transactionAge: server.transactionAge, multixactAge: server.multixactAge },
      gain: 'Freezing old rows moves the limit away. Look also for what holds it up: a long transaction, an unused slot.',
      sql: `vacuum (freeze, verbose) ${oldest?.sql ?? ''};`.replace(' ;', ';'),
      undo: nothingToUndo,
      ...(oldest && { table: oldest.sql }),
    },
  ]
}
