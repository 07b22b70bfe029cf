import type { Facts, ForeignKey, Index, Table } from './facts.ts'
import type { Key, SortKey, Source } from './needs.ts'

/** Which indexes might help. There are more than really do: each is tried before it is advised. Pure. */

/** An index that does not exist yet. */
export interface Shape {
  table: Table
  method: 'btree' | 'gin'
  /** As in `create index … on … (author_id, created_at desc)`. */
  keys: string[]
}

/** An index of more columns than this serves one statement and slows every write. */
const keysMax = 4
const shapesMax = 16

/**
 * Returns the indexes to try. A btree is read from its first column on, so columns compared for equality come first, the one with
 * most values leading; after them either the order of the result or one range. A column of a join is compared for equality
 * too, once for each row of the other table.
 */
export function shapesOf(source: Source, indexes: readonly Index[]): Shape[] {
  const { table } = source
  const equal = distinctFirst(source.equal)
  const bases = [equal, ...source.joined.map((key) => [key, ...equal]), ...source.joined.map((key) => [key])]
  const tails = [[], ordered(source.sort), ...source.range.map((key) => [key.sql])]
  const lists = [
    ...source.joined.map((key) => [key.sql]),
    ...equal.map((key) => [key.sql]),
    ...bases.flatMap((base) => tails.map((tail) => [...base.map((key) => key.sql), ...tail])),
    ...tails,
  ]
  const btrees = lists
    .map((keys) => keys.filter((key, index) => keys.findIndex((other) => bare(other) === bare(key)) === index))
    .filter((keys) => keys.length > 0 && keys.length <= keysMax)
    .map((keys): Shape => ({ table, method: 'btree', keys }))
  const gins = source.contained.map((key): Shape => ({ table, method: 'gin', keys: [key.sql] }))
  const fresh = [...btrees, ...gins].filter((shape) => !indexes.some((index) => serves(index, shape)))
  return uniqueShapes(fresh).slice(0, shapesMax)
}

export function shapeId({ table, method, keys }: Shape): string {
  return `${table.oid} ${method} ${keys.join(', ')}`
}

export function uniqueShapes(shapes: readonly Shape[]): Shape[] {
  return [...new Map(shapes.map((shape) => [shapeId(shape), shape])).values()]
}

/** Foreign keys whose columns no index begins with, on tables where an index can be created. */
export function unindexedForeignKeys({ foreignKeys, tables, indexes }: Facts): { key: ForeignKey; shape: Shape }[] {
  return foreignKeys.flatMap((key) => {
    const table = tables.find(({ oid }) => oid === key.tableOid)
    if (!table || table.partitioned || table.partition) return []
    const keys = columnsAsSql(table, key.columns)
    const supported = indexes.some((index) => index.tableOid === table.oid && supports(index, keys))
    return supported ? [] : [{ key, shape: { table, method: 'btree', keys } }]
  })
}

export function columnsAsSql(table: Table, names: readonly string[]): string[] {
  return names.map((name) => table.columns.find((column) => column.name === name)?.sql ?? name)
}

/** Whether the index finds rows by all of these columns, in any order. */
export function supports(index: Index, columns: readonly string[]): boolean {
  // A search for a value can use an index that leaves out the nulls.
  const whole = index.predicate === null || columns.some((column) => index.predicate === `(${column} IS NOT NULL)`)
  const leading = new Set(index.keys.slice(0, columns.length))
  return index.valid && whole && index.method === 'btree' && columns.every((column) => leading.has(column))
}

function serves(index: Index, { table, method, keys }: Shape): boolean {
  const isAlike = index.tableOid === table.oid && index.method === method && index.valid && index.predicate === null
  return isAlike && isBeginning(keys, index.keys)
}

/** Whether the first keys of a longer index are these. */
export function isBeginning(short: readonly string[], long: readonly string[]): boolean {
  return short.length <= long.length && short.every((key, index) => key === long[index])
}

function distinctFirst(keys: readonly Key[]): Key[] {
  return [...keys].sort((a, b) => b.column.distinct - a.column.distinct || (a.sql < b.sql ? -1 : 1))
}

/** An index can be read backwards: a direction matters only where it changes, or where nulls are placed explicitly. */
function ordered(keys: readonly SortKey[]): string[] {
  const isUniform = keys.every((key) => key.descending === keys[0]?.descending && key.nulls === undefined)
  if (isUniform) return keys.map((key) => key.sql)
  return keys.map(({ sql, descending, nulls }) => {
    return `${sql}${descending ? ' desc' : ''}${nulls === undefined ? '' : ` nulls ${nulls}`}`
  })
}

/** A key without its direction. */
export function bare(key: string): string {
  return key.replace(/( desc)?( nulls (first|last))?$/, '')
}

export function createOn(table: string, name: string, { method, keys }: Shape): string {
  return `create index ${name} on ${table} ${method === 'btree' ? '' : `using ${method} `}(${keys.join(', ')})`
}
