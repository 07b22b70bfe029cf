import { type ConnectionConfig, connectOnce } from '../engines/postgres/client.ts'
import type { Sighting } from '../observe/sighting-table.ts'
import { toDataError } from '../primitives/data/errors.ts'
import { diagnose } from './diagnose.ts'
import { experimentsOf, isForeign } from './experiments.ts'
import { collectFacts, type Facts } from './facts.ts'
import type { Finding } from './finding.ts'
import { parseStatement } from './rewrite.ts'
import { type Thresholds, thresholds } from './thresholds.ts'
import { planAlone, type VerifyOptions, verify } from './verify.ts'

export interface Examination {
  facts: Facts
  findings: Finding[]
}

export interface ExamineOptions extends Omit<VerifyOptions, 'limits'> {
  /** What the app saw of itself. */
  seen?: readonly Sighting[]
  limits?: Partial<Thresholds>
}

/**
 * Examines a live database, tries what might help, and says what to do. It changes nothing and blocks nobody.
 * @throws DATA_* when the database cannot be reached
 */
export async function examine(connection: ConnectionConfig, options: ExamineOptions = {}): Promise<Examination> {
  const limits = { ...thresholds, ...options.limits }
  const client = await connectOnce(connection).catch((error) => {
    throw toDataError(error)
  })
  try {
    // Keeps the doctor out of the counters that it reads. (Elsewhere a pooler might keep the setting.)
    if (connection.url === undefined) await client.query(`set pg_stat_statements.track = 'none'`).catch(() => {})
    const facts = await collectFacts(client)
    const verification = await verify(client, facts, await experimentsOf(facts, limits), { ...options, limits })
    const seen = await ownOnly(options.seen ?? [], ({ statement }) => statement)
    for (const { statement } of seen.filter(({ kind }) => kind === 'slow').slice(0, limits.examinedMax)) {
      const plan = await planAlone(client, facts, statement)
      if (plan) verification.plans.set(statement, plan)
    }
    const statements = await ownOnly(facts.statements, ({ text }) => text)
    return { facts, findings: diagnose({ ...facts, statements, verification, seen }, limits) }
  } finally {
    await client.end()
  }
}

/** Leaves out the statements that no author of an app has written. */
async function ownOnly<T>(entries: readonly T[], textOf: (entry: T) => string): Promise<T[]> {
  const foreign = await Promise.all(
    entries.map(async (entry) => {
      const text = textOf(entry)
      return /^\s*explain\b/i.test(text) || isForeign({ ast: (await parseStatement(text))?.ast, text })
    }),
  )
  return entries.filter((_, index) => !foreign[index])
}
