import { findNodes, parseSql, type SqlNode } from '../engines/postgres/parser.ts'
import type { Column } from './facts.ts'
import { literal } from './finding.ts'
import type { Source } from './needs.ts'

/** From a text of pg_stat_statements to one that EXPLAIN takes. Pure, but for the parser, which loads itself. */

/**
 * pg_stat_statements puts a parameter in the place of every constant, also of those that the grammar wants as a word:
 * `interval $1`, `extract($1 from …)`.
 */
export function withParsableConstants(text: string): string {
  return text
    .replace(/\b(interval|timestamptz|timestamp|timetz|time|date)\s+(\$\d+)/gi, '$2::$1')
    .replace(/\bextract\s*\(\s*\$\d+\s+from\b/gi, 'extract(epoch from')
}

export interface Parsed {
  text: string
  ast: SqlNode
}

const examined = /^\{"(SelectStmt|InsertStmt|UpdateStmt|DeleteStmt)"/

/** One statement that reads or changes rows; undefined for any other, and for a text that is not understood. */
export async function parseStatement(text: string): Promise<Parsed | undefined> {
  const parsable = withParsableConstants(text)
  const [statement, another] = await parseSql(parsable).catch(() => [])
  if (!statement || another || !examined.test(JSON.stringify(statement.ast))) return undefined
  const offset = Buffer.byteLength(parsable.slice(0, statement.offset))
  // Places in the tree count from the beginning of the whole text: the blanks before it must stay.
  return { text: ' '.repeat(offset) + statement.text, ast: statement.ast }
}

export interface Rewriting {
  sources: readonly Source[]
  /** The name to put for a table. */
  nameOf(source: Source): string
  /** What a LIMIT of the statement itself is taken for: the planner would guess a tenth of all rows. */
  limit: number
  /** A condition to put before the others, with the place of the first of these. */
  condition?: { at: number; sql: string } | undefined
}

/** A LIMIT inside is most often "the latest few of each". */
const innerLimit = 10

/** The statement about other tables, with likely limits. */
export function rewrite({ text, ast }: Parsed, { sources, nameOf, limit, condition }: Rewriting): string {
  // One character for each byte, so that the parser's places fit.
  const bytes = Buffer.from(text).toString('latin1')
  const edits: Edit[] = []
  for (const source of sources) {
    const length = qualifiedName.exec(bytes.slice(source.at))?.[0].length ?? 0
    const alias = source.aliased ? '' : ` as ${quoted(source.alias)}`
    edits.push({ at: source.at, length, sql: `${nameOf(source)}${alias}` })
  }
  for (const { fields, location = 0 } of findNodes(ast, 'ColumnRef')) {
    // `articles.article.id` names a schema that the copy is not in.
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

/** That a column lies above or below a value: `article.created_at > '2026-01-01'`. */
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

function quoted(name: string): string {
  return `"${name.replaceAll('"', '""')}"`
}
