import { findNodes, lineAt, type SqlNodes, type SqlTag, type Statement } from '../../engines/postgres/parser.ts'
import { schemaOf, wordsOf } from './boundary.ts'
import { type Check, identifier, type Problem, type Rule, type Step } from './migration-lint/rule.ts'
import { statementRules } from './migration-lint/statement-rules.ts'
import { tableRules } from './migration-lint/table-rules.ts'

export { needsNoTransaction } from './migration-lint/rule.ts'

/**
 * Refuses a migration that would stop the app while it runs: one that holds a strong lock for as long as a scan or a
 * rewrite of a large table takes, or that removes what the release still running uses. The catalog is not asked: each
 * table that the file does not itself create counts as large, and a doubtful statement as unsafe. What the author knows
 * better is written into the file, for its reviewers: `-- rung:allow <rule> <reason>`.
 */

export interface MigrationFile {
  file: string
  text: string
  statements: readonly Statement[]
  module: string
  /** The modules whose tables this one has declared to read. */
  reads: readonly string[]
}

export interface Finding {
  rule: string
  file: string
  line: number
  /** What locks or breaks, and why. */
  message: string
  /** The safe way, with SQL. */
  advice: string
  /** The reason that the file gives; such a finding is no obstacle. */
  overridden?: string
}

const rules: readonly Rule[] = [...tableRules, ...statementRules]
const overrideRules = [
  { name: 'override-needs-reason', description: 'Overrides a rule without saying why.' },
  { name: 'override-unused', description: 'Overrides a rule that finds nothing in the file, or that none can lift.' },
]

/** All rules, for the documentation. */
export const migrationRules: readonly { name: string; description: string }[] = [
  ...rules.map(({ name, description }) => ({ name, description })),
  ...overrideRules,
]

/** Everything wrong with a migration file, in the order of its lines. */
export function lintMigration(migration: MigrationFile): Finding[] {
  const { file, statements } = migration
  const steps = stepsOf(migration)
  const findings: Finding[] = []
  for (const { name: rule, checks, checkStatement, evenIfNew } of rules) {
    const add = (line: number, [message, ...advice]: Problem): void => {
      findings.push({ rule, file, line, message, advice: advice.join('\n') })
    }
    for (const statement of statements) {
      for (const problem of checkStatement?.(statement, migration) ?? []) add(statement.line, problem)
    }
    for (const step of steps) {
      const check = checks?.[step.tag] as Check<SqlTag> | undefined
      const problem = (evenIfNew || !step.isNew) && check?.(step.node as never, step, steps)
      if (problem) add(step.line, problem)
    }
  }
  return [...applyOverrides(migration, findings)].sort((a, b) => a.line - b.line)
}

/** Strings and comments, each whole, so that neither is looked for inside the other. */
const lexemes =
  /[eE]'(?:[^'\\]|\\[\s\S]|'')*'|'[^']*'|"[^"]*"|\$([a-z_]\w*)?\$[\s\S]*?\$\1\$|\/\*[\s\S]*?\*\/|--[^\n]*/gi

function* applyOverrides({ file, text }: MigrationFile, findings: readonly Finding[]): Generator<Finding> {
  const reasons = new Map<string, string>()
  for (const { 0: lexeme, index } of text.matchAll(lexemes)) {
    const [isOverride, name = '', reason] = /^--\s*rung:allow\b\s*(\S+)?\s*(.*\S)?/.exec(lexeme) ?? []
    if (!isOverride) continue
    const line = text.slice(0, index).split('\n').length
    const final = rules.find((rule) => rule.name === name)?.final
    if (reason === undefined) {
      const message = `"${isOverride.trim()}" gives no reason, so it allows nothing.`
      yield { rule: 'override-needs-reason', file, line, message, advice: '-- rung:allow <rule> <reason>' }
    } else if (final || !findings.some((finding) => finding.rule === name)) {
      const known = migrationRules.some((rule) => rule.name === name)
      const why = final ? 'cannot be overridden' : known ? 'finds nothing in this file' : 'does not exist'
      const advice = final ? 'Follow the advice of the rule.' : 'Remove the comment.'
      yield { rule: 'override-unused', file, line, message: `The rule "${name}" ${why}.`, advice }
    } else if (!reasons.has(name)) reasons.set(name, reason)
  }
  for (const finding of findings) {
    const overridden = reasons.get(finding.rule)
    yield overridden === undefined ? finding : { ...finding, overridden }
  }
}

/** A relation's name as its words, the last one its own. */
type Words = readonly string[]
type Fields = { [field in string]?: unknown }

/** Flattens the statements to what they do, one after the other. */
function stepsOf({ text, statements, module }: MigrationFile): Step[] {
  const bytes = Buffer.from(text)
  const fullName = (words: Words): string =>
    (words.length > 1 ? words : [schemaOf(module), ...words]).slice(-2).join('.')
  const made = statements.map(({ ast }) => madeBy(ast).map(fullName))

  function stepsOfStatement({ ast, line }: Statement, at: number): Step[] {
    const step = (tag: SqlTag, node: unknown, words: Words, column?: Step['column']): Step => {
      const name = fullName(words)
      const location = tag === Object.keys(ast)[0] ? undefined : (node as { location?: number }).location
      return {
        tag,
        node,
        at,
        line: location === undefined ? line : lineAt(bytes, location),
        table: words.map(identifier).join('.'),
        fullName: name,
        isNew:
          words.length > 0 &&
          made
            .slice(0, at + 1)
            .flat()
            .includes(name),
        isRemade: made
          .slice(at + 1)
          .flat()
          .includes(name),
        column,
      }
    }
    const [[tag, node]] = Object.entries(ast) as [[SqlTag, Fields]]
    const subjects = subjectsOf(node)
    const steps = (subjects.length > 0 ? subjects : [[]]).map((words) => step(tag, node, words))
    // A function's or a rule's body runs later.
    const writes = tag === 'CreateFunctionStmt' || tag === 'RuleStmt' ? [] : (['UpdateStmt', 'DeleteStmt'] as const)
    for (const write of writes) {
      for (const nested of findNodes(node, write)) steps.push(step(write, nested, wordsOfRelation(nested.relation)!))
    }
    for (const command of findNodes(node.cmds, 'AlterTableCmd')) {
      const table = subjects[0]!
      const column = command.subtype === 'AT_AddColumn' ? findNodes(command.def, 'ColumnDef')[0] : undefined
      const constraints = findNodes(column?.constraints ?? command.def, 'Constraint')
      const part = command.subtype === 'AT_AttachPartition' ? findNodes(command.def, 'PartitionCmd')[0] : undefined
      const altered = findNodes(command.def, 'ATAlterConstraint')[0]
      const { location } = column ?? constraints[0] ?? findNodes(command.def, 'ColumnDef')[0] ?? part?.name ?? {}
      steps.push(step('AlterTableCmd', { ...command, location }, table))
      if (column) steps.push(step('ColumnDef', column, table, column))
      for (const constraint of constraints) steps.push(step('Constraint', constraint, table, column))
      if (part) steps.push(step('PartitionCmd', { ...part, location }, wordsOfRelation(part.name)!))
      if (altered) steps.push(step('ATAlterConstraint', altered, table))
    }
    return steps
  }
  return statements.flatMap(stepsOfStatement)
}

function wordsOfRelation(relation: unknown): Words | undefined {
  const { schemaname, relname } = (relation ?? {}) as SqlNodes['RangeVar']
  return relname === undefined ? undefined : schemaname === undefined ? [relname] : [schemaname, relname]
}

/** The relations or types that a statement is about. */
function subjectsOf(node: Fields): Words[] {
  const many = [node.relations, node.rels].flat() as { RangeVar?: unknown; VacuumRelation?: Fields }[]
  const relations = [
    node.relation,
    node.view,
    (node.into as Fields | undefined)?.rel,
    ...many.map((each) => each?.RangeVar ?? each?.VacuumRelation?.relation),
  ]
  const named = [node.objects ?? node.object ?? []].flat().map(wordsOf)
  return [
    ...relations.flatMap((relation) => [wordsOfRelation(relation) ?? []]),
    ...named,
    wordsOf(node.typeName),
  ].filter((words) => words.length > 0)
}

/** The names that a statement gives to something new. With IF NOT EXISTS it may be old and large. */
function madeBy(ast: Statement['ast']): Words[] {
  const [[tag, node]] = Object.entries(ast) as [[SqlTag, Fields]]
  if (node.if_not_exists) return []
  const [subject] = subjectsOf(node)
  const inSame = (name: unknown): Words[] => (typeof name === 'string' ? [[...(subject ?? []).slice(0, -1), name]] : [])
  switch (tag) {
    case 'CreateStmt':
    case 'CreateTableAsStmt':
    case 'CreateEnumStmt':
    case 'ViewStmt':
      return subject ? [subject] : []
    case 'SelectStmt':
      return [wordsOfRelation((node.intoClause as Fields | undefined)?.rel) ?? []].filter((words) => words.length > 0)
    case 'CreateSchemaStmt':
      return findNodes(node.schemaElts, 'CreateStmt').map(({ relation }) => {
        return [relation?.schemaname ?? (node.schemaname as string), relation!.relname!]
      })
    case 'IndexStmt':
      return inSame(node.idxname)
    case 'RenameStmt':
      return node.renameType === 'OBJECT_TABLE' ? inSame(node.newname) : []
    default:
      return []
  }
}
