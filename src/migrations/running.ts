import { readdir, readFile } from 'node:fs/promises'
import path from 'node:path'
import { findNodes, parseSql, type SqlNodes } from '../engines/postgres/parser.ts'
import { wordsOf } from '../primitives/data/boundary.ts'
import type { Migration } from '../primitives/data/migrations.ts'
import { isBackfill } from './backfill.ts'
import { stepsOf } from './lint/steps.ts'
import { type Finding, overridesOf } from './lint.ts'

/**
 * Compares a migration with the code that runs while it is applied, which is that of the release before. A name that this code still
 * uses cannot go, and a column that this code does not know cannot be required. The code is searched for the names: a finding may be
 * about something else of the same name, and then the file says so: `-- rung:allow still-used <reason>`.
 */
interface Change {
  rule: 'still-used' | 'not-yet-written'
  name: string
  line: number
}

const codeFile = /\.([cm]?[jt]sx?|sql)$/
const migrationFile = /^\d{4,}[_-].*\.sql$/

/** Returns what in this migration breaks the release in `folder`. */
export async function breaksRunning(migration: Migration, folder: string): Promise<Finding[]> {
  if (isBackfill(migration)) return []
  const changes = changesOf(stepsOf({ ...migration, statements: await parseSql(migration.text) }))
  if (changes.length === 0) return []
  const code = await codeIn(folder)
  const reasons = overridesOf(migration.text)
  const file = `${migration.module}/${migration.name}`
  return changes.flatMap(({ rule, name, line }) => {
    const use = findWord(code, name)
    if ((use !== undefined) !== (rule === 'still-used')) return []
    const overridden = reasons.get(rule)
    const [message, advice] =
      rule === 'still-used'
        ? [
            `The running release still uses ${name} (${use}).`,
            'Deploy code that does without it first, and drop or rename it in the release after that one.',
          ]
        : [
            `The running release does not write ${name}: its inserts would fail.`,
            'Deploy code that writes it first, and require it in the release after that one.',
          ]
    return [{ rule, file, line, message, advice, ...(overridden !== undefined && { overridden }) }]
  })
}

/** Names that go, and columns that become required. Pure. */
function changesOf(steps: ReturnType<typeof stepsOf>): Change[] {
  return steps.flatMap(({ tag, node, line, isNew, table }): Change[] => {
    const gone = (name: string | undefined): Change[] =>
      name === undefined ? [] : [{ rule: 'still-used', name, line }]
    if (isNew) return []
    if (tag === 'AlterTableCmd') {
      const { subtype, name, def } = node as SqlNodes['AlterTableCmd']
      if (subtype === 'AT_DropColumn') return gone(name)
      const isRequired = subtype === 'AT_SetNotNull' || (subtype === 'AT_ColumnDefault' && def === undefined)
      return isRequired && name !== undefined ? [{ rule: 'not-yet-written', name, line }] : []
    }
    if (
      tag === 'DropStmt' &&
      /^OBJECT_(TABLE|VIEW|MATVIEW|SEQUENCE|TYPE|FUNCTION)$/.test((node as SqlNodes['DropStmt']).removeType!)
    )
      return gone(table.split('.').at(-1)?.replaceAll('"', ''))
    if (tag === 'RenameStmt') {
      const { subname, relation, object, renameType } = node as SqlNodes['RenameStmt']
      if (/CONSTRAINT|INDEX/.test(renameType!)) return []
      return gone(
        subname ?? findNodes({ relation }, 'RangeVar')[0]?.relname ?? relation?.relname ?? wordsOf(object).at(-1),
      )
    }
    return []
  })
}

type Code = readonly { file: string; text: string }[]

async function codeIn(folder: string): Promise<Code> {
  const entries = await readdir(folder, { withFileTypes: true, recursive: true })
  const files = entries
    .filter((entry) => entry.isFile() && codeFile.test(entry.name) && !migrationFile.test(entry.name))
    .map(({ parentPath, name }) => path.join(parentPath, name))
    .filter((file) => !/(^|\/)(node_modules|test|tests)\/|\.test\.\w+$/.test(path.relative(folder, file)))
    .sort()
  return Promise.all(
    files.map(async (file) => ({ file: path.relative(folder, file), text: await readFile(file, 'utf8') })),
  )
}

/** Finds a name as a word: `file:line`. In code it may be in camel case. */
function findWord(code: Code, name: string): string | undefined {
  const camel = name.replace(/_([a-z0-9])/g, (_, letter: string) => letter.toUpperCase())
  const word = new RegExp(`(?<![\\w$])(${[...new Set([name, camel])].map(escaped).join('|')})(?![\\w$])`)
  for (const { file, text } of code) {
    const found = word.exec(text)
    if (found) return `${file}:${text.slice(0, found.index).split('\n').length}`
  }
  return undefined
}

const escaped = (text: string) => text.replace(/[\\^$.*+?()[\]{}|]/g, '\\$&')
