import type { Node } from 'libpg-query'
import { messageOf, RungError } from '../../kernel/errors.ts'

/**
 * Postgres's own grammar (libpg_query, WebAssembly), for the checks at a developer's desk and before a migration. It is
 * loaded on the first call, so that a process that never parses never pays for it.
 */

/** One node as the parser gives it: an object with a single key, the node's tag. */
export type SqlNode = Node

type Intersection<U> = (U extends unknown ? (each: U) => void : never) extends (all: infer I) => void ? I : never

/** From a node's tag to its fields: `SqlNodes['SelectStmt']`. A field that is false, zero or empty is left out. */
export type SqlNodes = Intersection<SqlNode>
export type SqlTag = keyof SqlNodes

export interface Statement {
  ast: SqlNode
  /** From its first word to its last, without the semicolon. */
  text: string
  /** Where it starts in the whole text, in JavaScript's units. */
  offset: number
  /** The line it starts on, from 1. */
  line: number
}

/** The statements of a text, in order; none for a text of blanks and comments. Throws `DATA_STATEMENT` for bad SQL. */
export async function parseSql(text: string): Promise<Statement[]> {
  if (text.trim() === '') return []
  const { parse } = await import('libpg-query')
  const { stmts = [] } = await parse(text).catch((error) => {
    throw badSql(text, error)
  })
  // The parser counts bytes of UTF-8, and leaves a length of "to the end" out.
  const bytes = Buffer.from(text)
  return stmts.map(({ stmt, stmt_location: from = 0, stmt_len: length }) => {
    const raw = bytes.toString('utf8', from, length ? from + length : undefined)
    const blanks = raw.length - raw.trimStart().length
    const offset = bytes.toString('utf8', 0, from).length + blanks
    return { ast: stmt!, text: raw.trim(), offset, line: lineAt(bytes, from + blanks) }
  })
}

/** The source text of each statement. */
export async function splitStatements(text: string): Promise<string[]> {
  return (await parseSql(text)).map((statement) => statement.text)
}

/** Equal for texts that differ only in their constants, blanks, comments and letter case. */
export async function fingerprint(text: string): Promise<string> {
  const library = await import('libpg-query')
  const print = await library.fingerprint(text).catch(messageOf)
  // For some errors the library answers with the message instead of throwing it.
  if (/^[0-9a-f]{16}$/.test(print)) return print
  await parseSql(text) // says where
  throw badSql(text, new Error(print))
}

/** The line, from 1, of a node's `location`, which counts bytes. */
export function lineAt(bytes: Uint8Array, location: number): number {
  let line = 1
  for (let at = bytes.indexOf(10); at !== -1 && at < location; at = bytes.indexOf(10, at + 1)) line += 1
  return line
}

/** Every node with that tag in a tree, outermost first. */
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
  // An error's position counts characters (code points), unlike a node's.
  const before = Array.from(text).slice(0, cursorPosition).join('')
  const line = before.split('\n').length
  const column = before.length - before.lastIndexOf('\n')
  const message = `The SQL is wrong at line ${line}, column ${column}: ${messageOf(error)}.`
  return new RungError('DATA_STATEMENT', message, { cause: error, facts: { line, column, offset: before.length } })
}
