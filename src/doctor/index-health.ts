import { columnsAsSql, isBeginning, supports } from './candidates.ts'
import type { Facts, Index, Table } from './facts.ts'
import { type Finding, formatSeconds, quoted } from './finding.ts'
import type { Thresholds } from './thresholds.ts'

/** Indexes that cost every write something and help no read. Pure. */
export function indexHealth(facts: Facts, limits: Thresholds): Finding[] {
  const findings: Finding[] = []
  const reported = new Set<Index>()
  for (const check of [invalid, duplicate, redundant, unused]) {
    for (const index of facts.indexes) {
      const table = facts.tables.find(({ oid }) => oid === index.tableOid)
      // One finding for an index: the first that holds says most.
      const finding = table && !reported.has(index) && check(index, table, facts, limits, reported)
      if (!finding) continue
      reported.add(index)
      findings.push(finding)
    }
  }
  return findings
}

type Check = (
  index: Index,
  table: Table,
  facts: Facts,
  limits: Thresholds,
  reported: ReadonlySet<Index>,
) => Finding | undefined

const invalid: Check = (index, table) => {
  if (index.valid || index.building) return undefined
  return {
    kind: 'invalid-index',
    severity: 'act',
    what: `${index.sql} is invalid: building it failed. Writes keep it up to date, but no statement may use it.`,
    evidence: { sizeBytes: index.sizeBytes, tableWrites: table.writes },
    gain: 'Faster writes now. Create it again once the cause is gone (rows that are not unique, a time limit).',
    ...dropping(index, table),
    table: table.sql,
  }
}

const duplicate: Check = (index, table, { indexes }, _limits, reported) => {
  const twin = indexes.find((other) => {
    return other !== index && !reported.has(other) && isSame(index, other) && worthKeeping(other) >= worthKeeping(index)
  })
  if (!twin || !index.valid || index.referenced || index.replicaIdentity) return undefined
  return {
    kind: 'duplicate-index',
    severity: 'act',
    what: `${index.sql} is the same as ${twin.name}.`,
    evidence: { sizeBytes: index.sizeBytes, scans: index.scans, twinScans: twin.scans, tableWrites: table.writes },
    gain: 'Faster writes and less space; reads use the other one.',
    ...dropping(index, table),
    table: table.sql,
  }
}

const redundant: Check = (index, table, { indexes }, limits) => {
  if (!isFree(index)) return undefined
  const longer = indexes.find((other) => isContainedIn(index, other))
  if (!longer || longer.sizeBytes > limits.redundantSizeFactor * index.sizeBytes) return undefined
  return {
    kind: 'redundant-index',
    severity: 'look',
    what: `${index.sql} (${index.keys.join(', ')}) is contained in the beginning of ${longer.name} (${longer.keys.join(', ')}).`,
    evidence: {
      sizeBytes: index.sizeBytes,
      scans: index.scans,
      longerSizeBytes: longer.sizeBytes,
      longerScans: longer.scans,
      tableWrites: table.writes,
    },
    gain: 'Faster writes and less space; the longer one finds the same rows, reading slightly more.',
    ...dropping(index, table),
    table: table.sql,
  }
}

const unused: Check = (index, table, { server, foreignKeys, indexes }, limits) => {
  const seconds = server.statsSeconds ?? 0
  const isOld = seconds >= limits.unusedSeconds && index.scans === 0 && index.sizeBytes >= limits.unusedBytes
  if (!isOld || !isFree(index) || table.scans === 0) return undefined
  const isForKey = foreignKeys.some(({ tableOid, columns }) => {
    const names = columnsAsSql(table, columns)
    const hasAnother = indexes.some((other) => other !== index && other.tableOid === tableOid && supports(other, names))
    return tableOid === table.oid && supports(index, names) && !hasAnother
  })
  if (isForKey) return undefined
  const elsewhere = server.replicas > 0 ? ' Scans on replicas are not counted here: look there first.' : ''
  return {
    kind: 'unused-index',
    severity: 'look',
    what: `No statement has used ${index.sql} in ${formatSeconds(seconds)}.${elsewhere}`,
    evidence: { sizeBytes: index.sizeBytes, scans: 0, statsSeconds: seconds, tableWrites: table.writes },
    gain: 'Faster writes and less space, unless something needs it only rarely.',
    ...dropping(index, table),
    table: table.sql,
  }
}

/** Whether nothing but speed depends on the index. */
function isFree(index: Index): boolean {
  const isBound = index.unique || index.constraintName !== null || index.referenced || index.replicaIdentity
  return index.valid && !isBound
}

function isSame(a: Index, b: Index): boolean {
  const shape = ({ method, signature, included, predicate }: Index) =>
    JSON.stringify([method, signature, included, predicate])
  return a.tableOid === b.tableOid && b.valid && shape(a) === shape(b) && a.nullsEqual === b.nullsEqual
}

/** Of two equal indexes the one that more depends on stays; then the one that is used; then the older. */
function worthKeeping(index: Index): number {
  const bonds = [index.constraintName !== null, index.referenced, index.replicaIdentity, index.unique, index.scans > 0]
  return bonds.reduce((sum, bond) => sum * 2 + Number(bond), 0) - index.oid / 2 ** 33
}

function isContainedIn(short: Index, long: Index): boolean {
  const isAlike = short.tableOid === long.tableOid && long.valid && short.predicate === long.predicate
  const isBtree = short.method === 'btree' && long.method === 'btree'
  const hasKeys = short.signature.length < long.signature.length && isBeginning(short.signature, long.signature)
  const all = new Set([...long.keys, ...long.included])
  return isAlike && isBtree && hasKeys && short.included.every((column) => all.has(column))
}

function dropping(index: Index, table: Table): Pick<Finding, 'sql' | 'undo'> {
  const { constraintName: name, constraintDefinition, definition, sql } = index
  if (name !== null) {
    const constraint = `constraint ${quoted(name)}`
    return {
      sql: `alter table ${table.sql} drop ${constraint};`,
      undo: `alter table ${table.sql} add ${constraint} ${constraintDefinition};`,
    }
  }
  const again = definition.replace(/^CREATE (UNIQUE )?INDEX/, (words) => `${words.toLowerCase()} concurrently`)
  return { sql: `drop index concurrently ${sql};`, undo: `${again};` }
}
