import { parseSql } from '../engines/postgres/parser.ts'
import { RungError } from '../kernel/errors.ts'
import { foreignTables, touched } from '../primitives/data/boundary.ts'
import type { Guard } from '../primitives/data/data.ts'
import type { Mode } from '../topology/settings.ts'
import type { Log } from './log.ts'

/**
 * The border between modules, checked on every statement as it first runs: development reports, tests fail, production
 * does not look (the parser is never loaded there).
 */
export function boundaryGuard(mode: Mode, reads: ReadonlyMap<string, readonly string[]>, log: Log): Guard | undefined {
  if (mode === 'production') return undefined
  const verdicts = new Map<string, Promise<void> | undefined>()

  async function check(text: string, module: string): Promise<void> {
    const statements = await parseSql(text).catch(() => []) // wrong SQL: the database says so better
    const names = statements.flatMap((statement) => touched(statement.ast))
    const [first] = foreignTables(names, { module, reads: reads.get(module) ?? [] })
    if (!first) return
    if (mode === 'test') throw new RungError('DATA_BOUNDARY', first.message)
    log.warn({ module, code: 'DATA_BOUNDARY', statement: text }, first.message)
  }

  return (text, module) => {
    if (module === undefined) return undefined
    const key = `${module}\0${text}`
    if (verdicts.has(key)) return verdicts.get(key)
    const verdict = check(text, module)
    verdicts.set(key, verdict)
    // Once it has passed, nobody waits any more; one that failed stays, and fails every time.
    verdict.then(
      () => verdicts.set(key, undefined),
      () => {},
    )
    return verdict
  }
}
