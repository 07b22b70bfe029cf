import { type ConnectionConfig, connectOnce } from '../engines/postgres/client.ts'
import type { Seen } from '../observe/seen.ts'
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
  seen?: readonly Seen[]
  limits?: Partial<Thresholds>
}

/**
 * Looks at a live database, tries out what might help, and says what to do. It changes nothing and blocks nobody.
 * @throws DATA_* when the database cannot be reached
 */
export async function examine(connection: ConnectionConfig, options: ExamineOptions = {}): Promise<Examination> {
  const limits = { ...thresholds, ...options.limits }
  const client = await connectOnce(connection).catch((error) => {
    throw toDataError(error)
  })
  try {
    // In Rung's own Postgres it leaves no trace in the counters that it reads. (Elsewhere a pooler might keep the setting.)
    if (connection.url === undefined) await client.query(`set pg_stat_statements.track = 'none'`).catch(() => {})
    const facts = await collectFacts(client)
    const experiments = await experimentsOf(facts, limits)
    const verification = await verify(client, facts, experiments, { ...options, limits })
    const seen = await ofTheApp(options.seen ?? [])
    for (const { statement } of seen.filter(({ kind }) => kind === 'slow').slice(0, limits.examinedMax)) {
      const plan = await planAlone(client, facts, statement)
      if (plan) verification.plans.set(statement, plan)
    }
    const foreign = await foreignAmong(facts, limits)
    return { facts, findings: diagnose({ ...facts, verification, seen, foreign }, limits) }
  } finally {
    await client.end()
  }
}

async function foreignAmong({ statements }: Facts, limits: Thresholds): Promise<Set<string>> {
  const slow = statements.filter(({ meanMs, share }) => meanMs >= limits.slowMs || share >= limits.topShare)
  const judged = await Promise.all(slow.map(async ({ id, text }) => ({ id, foreign: await isForeignText(text) })))
  return new Set(judged.filter(({ foreign }) => foreign).map(({ id }) => id))
}

/** Without Rung's own statements, which nobody who reads the findings could change. */
async function ofTheApp(seen: readonly Seen[]): Promise<Seen[]> {
  const judged = await Promise.all(
    seen.map(async (entry) => ({ entry, foreign: await isForeignText(entry.statement) })),
  )
  return judged.filter(({ foreign }) => !foreign).map(({ entry }) => entry)
}

async function isForeignText(text: string): Promise<boolean> {
  if (/^\s*explain\b/i.test(text)) return true // by a version that kept its own questions
  return isForeign({ ast: (await parseStatement(text))?.ast, text })
}
