import { type ConnectionConfig, connectOnce } from '../../engines/postgres/client.ts'
import { toDataError } from '../../primitives/data/errors.ts'
import { diagnose } from './diagnose.ts'
import { experimentsOf, isAboutCatalogs } from './experiments.ts'
import { collectFacts, type Facts } from './facts.ts'
import type { Finding } from './finding.ts'
import { parseStatement } from './rewrite.ts'
import type { Seen } from './seen.ts'
import { type Thresholds, thresholds } from './thresholds.ts'
import { type VerifyOptions, verify } from './verify.ts'

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
    const foreign = await aboutCatalogs(facts, limits)
    return { facts, findings: diagnose({ ...facts, verification, seen: options.seen ?? [], foreign }, limits) }
  } finally {
    await client.end()
  }
}

async function aboutCatalogs({ statements }: Facts, limits: Thresholds): Promise<Set<string>> {
  const slow = statements.filter(({ meanMs, share }) => meanMs >= limits.slowMs || share >= limits.topShare)
  const parsed = await Promise.all(slow.map(async ({ id, text }) => ({ id, ast: (await parseStatement(text))?.ast })))
  return new Set(parsed.filter(({ ast }) => isAboutCatalogs(ast)).map(({ id }) => id))
}
