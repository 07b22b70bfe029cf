import type { Node } from 'libpg-query'
import { messageOf, RungError } from '../../kernel/errors.ts'

/** A node of libpg_query, Postgres' own grammar as WebAssembly: an object with a single key, the node's tag. */
export type SqlNode = Node

type Intersection<U> = (U extends unknown ? (each: U) => void : never) extends (all: infer I) => void ? I : never

/** From a node's tag to its fields: `SqlNodes['SelectStmt']`. Fields that are false, zero or empty are missing. */
export type SqlNodes = Intersection<SqlNode>
export type SqlTag = keyof SqlNodes

export interface Statement {
  ast: SqlNode
  /** Without the semicolon. */
  text: string
  /** Where it starts in the whole text, in UTF-16 units. */
  offset: number
  /** The line it starts on, from 1. */
  line: number
}

/**
 * Parses a text into its statements; blanks and comments contain none. The parser is loaded by the first call.
 * @throws DATA_STATEMENT with line and column for wrong SQL
 */
export async function parseSql(text: string): Promise<Statement[]> {
  if (text.trim() === '') return []
  const { parse } = await import('libpg-query')
  const { stmts = [] } = await parse(text).catch((error) => {
    throw badSql(text, error)
  })
  // The parser counts bytes of UTF-8; a missing length means "to the end".
  const bytes = Buffer.from(text)
  return stmts.map(({ stmt, stmt_location: from = 0, stmt_len: length }) => {
    const raw = bytes.toString('utf8', from, length ? from + length : undefined)
    const blanks = raw.length - raw.trimStart().length
    const offset = bytes.toString('utf8', 0, from).length + blanks
    return { ast: stmt!, text: raw.trim(), offset, line: lineAt(bytes, from + blanks) }
  })
}

/** Returns the line, from 1, of a node's `location`, which counts bytes. */
export function lineAt(bytes: Uint8Array, location: number): number {
  let line = 1
  for (let at = bytes.indexOf(10); at !== -1 && at < location; at = bytes.indexOf(10, at + 1)) line += 1
  return line
}

/** Returns every node with that tag in a tree, outermost first. */
export function findNodes<T extends SqlTag>(tree: unknown, tag: T): SqlNodes[T][] {
  if (typeof tree !== 'object' || tree === null) return []
  return Object.entries(tree).flatMap(([key, value]) => [
    ...(key === tag ? [value as SqlNodes[T]] : []),
    ...findNodes(value, tag),
  ])
}

function badSql(text: string, error: unknown): RungError {
  const { cursorPosition } = (error as { sqlDetails?: { cursorPosition?: number } }).sqlDetails ?? {}
  if (cursorPosition === undefined) {
    return new RungError('DATA_STATEMENT', `The SQL cannot be parsed: ${messageOf(error)}.`, { cause: error })
  }
  // Unlike a node's location, an error's position counts code points.
  const before = Array.from(text).slice(0, cursorPosition).join('')
  const line = before.split('\n').length
  const column = before.length - before.lastIndexOf('\n')
  const message = `The SQL is wrong at line ${line}, column ${column}: ${messageOf(error)}.`
  return new RungError('DATA_STATEMENT', message, { cause: error, facts: { line, column, offset: before.length } })
}
