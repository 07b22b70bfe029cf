import { findNodes, type SqlNodes, type SqlTag, type Statement } from '../../engines/postgres/parser.ts'
import type { Owner } from '../../primitives/data/boundary.ts'

/** One action of a migration: a statement, one command of ALTER TABLE, or one added column or constraint. */
export interface Step {
  tag: SqlTag
  node: unknown
  /** Index of the statement in the file. */
  at: number
  line: number
  /** Its text, to the end of its statement. */
  source: string
  /** The relation that it affects, as SQL, and as a full name for comparing. */
  table: string
  fullName: string
  /** The file itself created that relation before: it is empty, and nobody waits for it. */
  isNew: boolean
  /** The new column that this step is or belongs to. */
  column?: SqlNodes['ColumnDef'] | undefined
}

/** What the step locks or breaks, and why; then the lines of the safe way. */
export type Problem = [message: string, ...advice: string[]]
export type Check<T extends SqlTag> = (
  node: SqlNodes[T],
  step: Step,
  steps: readonly Step[],
) => Problem | false | undefined

export interface Rule {
  name: string
  /** What it refuses. */
  description: string
  /** Cannot be overridden: Postgres or the runner would fail on the file anyway. */
  final?: true
  /** Applies also to what the file itself created. */
  evenIfNew?: true
  checks?: { [T in SqlTag]?: Check<T> }
  checkStatement?: (statement: Statement, file: Owner & { statements: readonly Statement[] }) => Problem[]
}

/** Whether Postgres refuses one of the statements inside a transaction; it must then be the only one. */
export function needsNoTransaction(statements: readonly Statement[]): boolean {
  return statements.some(({ ast }) => {
    const [[tag, node]] = Object.entries(ast) as [[string, object]]
    if (/^(Create|Drop)(db|TableSpace|Subscription)Stmt$|^AlterSystemStmt$/i.test(tag)) return true
    if (tag === 'VacuumStmt') return 'is_vacuumcmd' in node
    if (tag === 'ClusterStmt' || tag === 'ReindexStmt') return !('relation' in node) || isConcurrent(node)
    return isConcurrent(node) && tag !== 'RefreshMatViewStmt'
  })
}

export function isConcurrent(tree: object): boolean {
  const node: { concurrent?: boolean; params?: unknown; cmds?: unknown } = tree
  const asOption = findNodes(node.params, 'DefElem').some((option) => option.defname === 'concurrently')
  return asOption || Boolean(node.concurrent) || findNodes(node.cmds, 'PartitionCmd').some((part) => part.concurrent)
}

export const stopsAll = 'under an ACCESS EXCLUSIVE lock: it cannot be read or written meanwhile'

/** A name as SQL, quoted where it must be. */
export function identifier(name: string | undefined): string {
  if (name === undefined) return '…'
  return /^[a-z_][a-z0-9_]*$/.test(name) ? name : `"${name.replaceAll('"', '""')}"`
}

/** Returns the first parentheses of a text with their content, or `(…)`; strings and names are skipped. */
export function inParentheses(text: string): string {
  const start = text.indexOf('(')
  let depth = 0
  for (const { 0: token, index } of text
    .slice(start)
    .matchAll(/'(?:[^']|'')*'|"[^"]*"|\$(\w*)\$[\s\S]*?\$\1\$|[()]/g)) {
    if (token === '(') depth += 1
    if (token === ')') depth -= 1
    if (depth === 0 && token === ')' && start !== -1) return text.slice(start, start + index + 1)
  }
  return '(…)'
}

export const qualified = (words: readonly string[]): string => words.map(identifier).join('.')

export function inFiles(...files: string[]): string {
  return files.map((sql, at) => `-- file ${at + 1}\n${sql}`).join('\n')
}

/** Whether an earlier statement validated a constraint of that table, so that Postgres skips the scan. */
export function isProven(step: Step, steps: readonly Step[]): boolean {
  const earlier = steps.filter((other) => other.at < step.at && other.fullName === step.fullName)
  return earlier.some((other) => (other.node as SqlNodes['AlterTableCmd']).subtype === 'AT_ValidateConstraint')
}
