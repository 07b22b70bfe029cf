import { touchedTables } from '../primitives/data/boundary.ts'
import { type Shape, shapesOf, unindexedForeignKeys, uniqueShapes } from './candidates.ts'
import type { Facts, ForeignKey, Statement, Table } from './facts.ts'
import { type FindTable, needsOf, type Source } from './needs.ts'
import { bound, parseStatement, rewrite } from './rewrite.ts'
import type { Thresholds } from './thresholds.ts'

/** A statement or foreign key, the tables that it reads, and the indexes to try for it. */
export interface Experiment {
  statement?: Statement
  foreignKey?: ForeignKey
  tables: Table[]
  shapes: Shape[]
  /** Returns the statement for tables of other names. */
  text(nameOf: (table: Table) => string, condition?: string): string
  filter?: Filter | undefined
}

/**
 * A filter by range. The planner assumes that an unknown bound (`created_at > $1`) finds a third of the table, and never uses an
 * index for it. The counters tell how many rows the statement really finds; a bound that finds as many makes the plan realistic.
 */
export interface Filter {
  table: Table
  column: string
  side: 'above' | 'below'
  share: number
  condition(value: string): string
}

/** The foreign keys without an index, then the statements that are slow or take much of the time. Pure. */
export async function experimentsOf(facts: Facts, limits: Thresholds): Promise<Experiment[]> {
  const find = finder(facts.tables)
  const worth = facts.statements.filter((statement) => isWorthIt(statement, limits)).slice(0, limits.examinedMax)
  const experiments = await Promise.all(worth.map((statement) => experimentOf(statement, facts, find)))
  return [...foreignKeyExperiments(facts), ...experiments.filter((experiment) => experiment !== undefined)]
}

function isWorthIt({ calls, share, meanMs }: Statement, limits: Thresholds): boolean {
  return calls >= limits.examinedCalls && (share >= limits.examinedShare || meanMs >= limits.slowMs)
}

async function experimentOf(statement: Statement, facts: Facts, find: FindTable): Promise<Experiment | undefined> {
  const parsed = await parseStatement(statement.text)
  if (!parsed || isForeign({ ast: parsed.ast, text: statement.text })) return undefined
  const { sources, plain, where } = needsOf(parsed.ast, find)
  const shapes = sources.flatMap((source) => shapesOf(source, facts.indexes))
  const tables = [...new Set(shapes.map((shape) => shape.table))]
  const found = statement.rows / Math.max(1, statement.calls)
  return {
    statement,
    tables,
    shapes: uniqueShapes(shapes),
    filter: plain && where !== undefined ? filterOf(sources[0]!, found) : undefined,
    text(nameOf, condition) {
      return rewrite(parsed, {
        sources,
        nameOf: (source) => nameOf(source.table),
        limit: Math.max(1, Math.ceil(found)),
        condition: condition === undefined ? undefined : { at: where!, sql: condition },
      })
    },
  }
}

/** What Postgres itself asks the referencing table for each row that is deleted from the other one. */
function foreignKeyExperiments(facts: Facts): Experiment[] {
  return unindexedForeignKeys(facts).map(({ key, shape }) => ({
    foreignKey: key,
    tables: [shape.table],
    shapes: [shape],
    text(nameOf) {
      const conditions = shape.keys.map((column, at) => `${column} = $${at + 1}`)
      return `select 1 from only ${nameOf(shape.table)} where ${conditions.join(' and ')}`
    },
  }))
}

function filterOf(source: Source, found: number): Filter | undefined {
  const [key] = source.range
  const isOnlyFilter = source.range.length === 1 && source.equal.length + source.contained.length === 0
  if (!key || !isOnlyFilter || key.sql !== key.column.sql || source.table.rows === 0) return undefined
  return {
    table: source.table,
    column: key.sql,
    side: key.side,
    share: Math.min(1, found / source.table.rows),
    condition: (value) => bound(source, key.column, key.side, value),
  }
}

/** Finds tables by name as a connection would; partitioned tables and their partitions are left out. */
function finder(tables: readonly Table[]): FindTable {
  return (schema, name) => {
    const named = tables.filter((table) => table.name === name && (schema === undefined || table.schema === schema))
    const table = named.length === 1 ? named[0] : named.find((one) => one.schema === 'public')
    return table?.partitioned || table?.partition ? undefined : table
  }
}

/** Whether no author of an app wrote the statement: it belongs to a backup, a monitor or Rung itself. */
export function isForeign({ ast, text }: { ast: unknown; text: string }): boolean {
  const touched = touchedTables(ast)
  if (touched.length === 0) return /\brung\.\w+\s*\(/.test(text)
  return touched.every(({ schema, table }) => {
    return /^pg_/.test(schema ?? table) || schema === 'information_schema' || schema === 'rung'
  })
}
