import { findNodes, parseSql, type SqlNode } from '../engines/postgres/parser.ts'
import type { Column } from './facts.ts'
import { literal, quoted } from './finding.ts'
import type { Source } from './needs.ts'

/** pg_stat_statements replaces even constants that the grammar needs: `interval $1`, `extract($1 from …)`. */
function withParsableConstants(text: string): string {
  return text
    .replace(/\b(interval|timestamptz|timestamp|timetz|time|date)\s+(\$\d+)/gi, '$2::$1')
    .replace(/\bextract\s*\(\s*\$\d+\s+from\b/gi, 'extract(epoch from')
}

export interface Parsed {
  text: string
  ast: SqlNode
}

const examined = /^\{"(SelectStmt|InsertStmt|UpdateStmt|DeleteStmt)"/

/** Parses one statement that reads or changes rows; returns undefined for any other text. */
export async function parseStatement(text: string): Promise<Parsed | undefined> {
  const parsable = withParsableConstants(text)
  const [statement, another] = await parseSql(parsable).catch(() => [])
  if (!statement || another || !examined.test(JSON.stringify(statement.ast))) return undefined
  const offset = Buffer.byteLength(parsable.slice(0, statement.offset))
  // Locations in the tree count from the beginning of the whole text.
  return { text: ' '.repeat(offset) + statement.text, ast: statement.ast }
}

export interface Rewriting {
  sources: readonly Source[]
  /** The name to use instead of a table's own. */
  nameOf(source: Source): string
  /** The value for a LIMIT of the outer statement: the planner would guess a tenth of all rows. */
  limit: number
  /** A condition to insert before the others, and where the first of these begins. */
  condition?: { at: number; sql: string } | undefined
}

/** An inner LIMIT most often means "the latest few of each". */
const innerLimit = 10

/** Rewrites a statement so that EXPLAIN accepts it, for other tables and with likely limits. */
export function rewrite({ text, ast }: Parsed, { sources, nameOf, limit, condition }: Rewriting): string {
  // One character for each byte, as the parser counts.
  const bytes = Buffer.from(text).toString('latin1')
  const edits: Edit[] = []
  for (const source of sources) {
    const length = qualifiedName.exec(bytes.slice(source.at))?.[0].length ?? 0
    const alias = source.aliased ? '' : ` as ${quoted(source.alias)}`
    edits.push({ at: source.at, length, sql: `${nameOf(source)}${alias}` })
  }
  for (const { fields, location = 0 } of findNodes(ast, 'ColumnRef')) {
    // The copy is not in the schema that `articles.article.id` names.
    const schema = (fields ?? []).length > 2 && /^("(?:[^"]|"")+"|[^\s.]+)\s*\.\s*/.exec(bytes.slice(location))
    if (schema) edits.push({ at: location, length: schema[0].length, sql: '' })
  }
  for (const select of findNodes(ast, 'SelectStmt')) {
    const isOuter = 'SelectStmt' in ast && select === ast.SelectStmt
    edits.push(...parameter(select.limitCount, isOuter ? limit : innerLimit), ...parameter(select.limitOffset, 0))
  }
  if (condition) {
    const at = bytes.toLowerCase().lastIndexOf('where', condition.at)
    edits.push({ at: at + 'where'.length, length: 0, sql: ` ${condition.sql} and ` })
  }
  return Buffer.from(applied(bytes, edits), 'latin1').toString()

  function parameter(node: SqlNode | undefined, value: number): Edit[] {
    return findNodes(node, 'ParamRef').map(({ location: at = 0, number = 0 }) => {
      return { at, length: `$${number}`.length, sql: String(value) }
    })
  }
}

/** A condition like `article.created_at > '2026-01-01'`. */
export function bound(source: Source, column: Column, side: 'above' | 'below', value: string): string {
  return `${quoted(source.alias)}.${column.sql} ${side === 'above' ? '>' : '<'} ${literal(value)}`
}

interface Edit {
  at: number
  length: number
  sql: string
}

const qualifiedName = /^("(?:[^"]|"")+"|[\w$\x80-\xff]+)(\s*\.\s*("(?:[^"]|"")+"|[\w$\x80-\xff]+))*/

function applied(bytes: string, edits: readonly Edit[]): string {
  let text = bytes
  for (const { at, length, sql } of [...edits].sort((a, b) => b.at - a.at)) {
    text = text.slice(0, at) + Buffer.from(sql).toString('latin1') + text.slice(at + length)
  }
  return text
}
