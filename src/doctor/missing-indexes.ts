import { bare, createOn, isBeginning, type Shape, shapeId, supports, uniqueShapes } from './candidates.ts'
import type { Facts, Index, Table } from './facts.ts'
import { type Finding, formatNumber, formatShare } from './finding.ts'
import type { Trial } from './verify.ts'

interface Advice {
  shape: Shape
  trials: Trial[]
}

/** Advises as few indexes as serve all statements that an experiment made cheaper. Pure. */
export function missingIndexes(facts: Facts, trials: readonly Trial[]): Finding[] {
  const names = new Set([...facts.indexes, ...facts.tables].map(({ name }) => name))
  return merged(trials)
    .sort((a, b) => timeShare(b) - timeShare(a) || (shapeId(a.shape) < shapeId(b.shape) ? -1 : 1))
    .map((advice) => findingOf(advice, facts, names))
}

/** A longer index also serves the statements that a shorter one with the same beginning would serve. */
function merged(trials: readonly Trial[]): Advice[] {
  const all = uniqueShapes(trials.flatMap((trial) => trial.shapes)).map((shape): Advice => {
    const ofShape = trials.filter((trial) => trial.shapes.some((one) => shapeId(one) === shapeId(shape)))
    return { shape, trials: ofShape }
  })
  const longestFirst = all.sort((a, b) => b.shape.keys.length - a.shape.keys.length)
  const kept: Advice[] = []
  for (const advice of longestFirst) {
    const longer = kept.find(({ shape }) => isCovered(advice.shape, shape))
    if (longer) longer.trials.push(...advice.trials.filter((trial) => !longer.trials.includes(trial)))
    else kept.push(advice)
  }
  return kept
}

function isCovered(short: Shape, long: Shape): boolean {
  const isAlike = short.table.oid === long.table.oid && short.method === 'btree' && long.method === 'btree'
  return isAlike && isBeginning(short.keys, long.keys)
}

function findingOf({ shape, trials }: Advice, facts: Facts, names: Set<string>): Finding {
  const { table, keys } = shape
  const name = indexName(shape, names)
  const best = trials.reduce((a, b) => (a.before / a.after >= b.before / b.after ? a : b))
  const statements = trials.flatMap(({ experiment }) => experiment.statement ?? [])
  const foreignKeys = trials.flatMap(({ experiment }) => experiment.foreignKey ?? [])
  const [busiest] = statements.toSorted((a, b) => b.totalMs - a.totalMs)
  const share = statements.reduce((sum, statement) => sum + statement.share, 0)
  const referenced = facts.tables.find(({ oid }) => oid === foreignKeys[0]?.referencedOid)
  const times = `${formatNumber(best.before / best.after)} times cheaper by the planner's estimate`
  const columns = keys.join(', ')
  return {
    kind: busiest ? 'missing-index' : 'missing-foreign-key-index',
    // Without a delete it has cost nothing yet.
    severity: busiest || (referenced?.deleted ?? 0) > 0 ? 'act' : 'look',
    what: busiest
      ? `An index on ${table.sql} (${columns}) would make a statement much cheaper.`
      : `${table.sql} (${columns}) references ${referenced?.sql ?? 'another table'} without an index: a delete there reads all of it.`,
    evidence: {
      costBefore: best.before,
      costAfter: best.after,
      ...(best.sampleShare < 1 && { sampleShare: best.sampleShare }),
      ...(busiest && { calls: busiest.calls, meanMs: busiest.meanMs, timeShare: share }),
      ...(statements.length > 1 && { statements: statements.length }),
      ...(!busiest && referenced && { deletes: referenced.deleted }),
      tableRows: table.rows,
      tableWrites: table.writes,
    },
    gain: [
      busiest ? `${times}; it takes ${formatShare(share)} of the time of all statements.` : `A delete is ${times}.`,
      foreignKeys.length > 0 && busiest ? 'It serves a foreign key too.' : '',
      replacedBy(shape, facts.indexes, table),
    ]
      .filter(Boolean)
      .join(' '),
    sql: `${createOn(table.sql, name, shape).replace('create index', 'create index concurrently')};`,
    undo: `drop index concurrently ${table.sql.slice(0, table.sql.indexOf('.'))}.${name};`,
    table: table.sql,
    ...(busiest && { statement: busiest.text }),
  }
}

function timeShare({ trials }: Advice): number {
  return trials.reduce((sum, { experiment }) => sum + (experiment.statement?.share ?? 0), 0)
}

/** Names a shorter index that is not needed beside the new one. */
function replacedBy({ keys, method }: Shape, indexes: readonly Index[], table: Table): string {
  const shorter = indexes.find((index) => {
    const isPlain = !index.unique && index.predicate === null && index.included.length === 0 && index.method === method
    const isShorter = index.keys.length < keys.length && isBeginning(index.keys, keys)
    return index.tableOid === table.oid && isPlain && isShorter && supports(index, index.keys)
  })
  return shorter ? `It replaces ${shorter.name}, which can be dropped afterwards.` : ''
}

const nameBytesMax = 63

/** Names an index as Postgres would: table, columns, `idx`; in lower case, and unlike all names in `taken`. */
function indexName({ table, keys }: Shape, taken: Set<string>): string {
  const words = [table.name, ...keys.map(bare)].map((word) =>
    word.replace(/[^A-Za-z0-9_]+/g, '_').replace(/^_+|_+$/g, ''),
  )
  const stem = words.join('_').toLowerCase().replace(/^\d/, '_$&')
  for (let at = 1; ; at += 1) {
    const suffix = at === 1 ? '_idx' : `_idx${at}`
    const name = stem.slice(0, nameBytesMax - suffix.length) + suffix
    if (taken.has(name)) continue
    taken.add(name)
    return name
  }
}
