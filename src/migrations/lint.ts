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

/** All rules, for the documentation. */
export const migrationRules: readonly { name: string; description: string }[] = rules.map(({ name, description }) => {
  return { name, description }
})

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
  const reasons = overridesOf(migration.text)
  return findings
    .map((finding) => {
      const overridden = reasons.get(finding.rule)
      return overridden === undefined ? finding : { ...finding, overridden }
    })
    .sort((a, b) => a.line - b.line)
}

/** Matches whole strings and comments, so that neither is found inside the other. */
const lexemes =
  /[eE]'(?:[^'\\]|\\[\s\S]|'')*'|'[^']*'|"[^"]*"|\$([A-Za-z_]\w*)?\$[\s\S]*?\$\1\$|\/\*[\s\S]*?\*\/|--[^\n]*/g

/** Returns the reasons by rule. A rule that Postgres itself enforces cannot be overridden. */
export function overridesOf(text: string): ReadonlyMap<string, string> {
  const reasons = new Map<string, string>()
  for (const [lexeme] of text.matchAll(lexemes)) {
    const [, name, reason] = /^--\s*rung:allow\s+(\S+)\s+(.*\S)/.exec(lexeme) ?? []
    const isFinal = rules.some((rule) => rule.name === name && rule.final)
    if (name !== undefined && !isFinal && !reasons.has(name)) reasons.set(name, reason!)
  }
  return reasons
}
