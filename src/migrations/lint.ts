import type { SqlTag, Statement } from '../engines/postgres/parser.ts'
import type { Check, Problem, Rule } from './lint/rule.ts'
import { statementRules } from './lint/statement-rules.ts'
import { stepsOf } from './lint/steps.ts'
import { tableRules } from './lint/table-rules.ts'

export { needsNoTransaction } from './lint/rule.ts'

/**
 * Refuses a migration that would stop the running app: one that holds a strong lock for as long as a scan or a rewrite of a large
 * table takes, or that removes what the running release uses. The catalog is not read: each table that the file does not itself
 * create counts as large, and a doubtful statement as unsafe. An author who knows better writes that into the file, for its
 * reviewers: `-- rung:allow <rule> <reason>`.
 */

export interface MigrationFile {
  file: string
  text: string
  statements: readonly Statement[]
  module: string
  /** Other modules whose tables it has declared to read. */
  reads: readonly string[]
}

export interface Finding {
  rule: string
  file: string
  line: number
  /** What the statement locks or breaks, and why. */
  message: string
  /** The safe way, with SQL. */
  advice: string
  /** The reason that the file gives; such a finding does not refuse the file. */
  overridden?: string
}

const rules: readonly Rule[] = [...tableRules, ...statementRules]
const overrideRules = [
  { name: 'override-needs-reason', description: 'Overrides a rule without saying why.' },
  {
    name: 'override-unused',
    description: 'Overrides a rule that finds nothing in the file, or that cannot be overridden.',
  },
]

/** All rules, for the documentation. */
export const migrationRules: readonly { name: string; description: string }[] = [
  ...rules.map(({ name, description }) => ({ name, description })),
  ...overrideRules,
]

/** Returns everything wrong with a migration file, in the order of its lines. */
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

/** Matches whole strings and comments, so that neither is found inside the other. */
const lexemes =
  /[eE]'(?:[^'\\]|\\[\s\S]|'')*'|'[^']*'|"[^"]*"|\$([A-Za-z_]\w*)?\$[\s\S]*?\$\1\$|\/\*[\s\S]*?\*\/|--[^\n]*/g

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
