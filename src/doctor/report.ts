import { formatBytes, formatMs } from '../kernel/units.ts'
import type { Kept } from '../stateless/finding.ts'
import type { Facts } from './facts.ts'
import { type Finding, formatNumber, formatSeconds, formatShare, inOneLine, type Severity } from './finding.ts'

/** The examination for people: lines of at most 80 columns. Pure. */

const width = 80
/** Columns before the text: six for the severity, six for the label. */
const labelled = 12
const statementCharsMax = 3 * (width - labelled)

/** Version, size, connections, cache hits, oldest transaction, age of the counters, statements seen. */
export function serverLine({ server, sessions, statementsSeen }: Facts): string {
  const reads = server.pagesHit + server.pagesRead
  const oldest = Math.max(0, ...sessions.map(({ transactionSeconds }) => transactionSeconds))
  return [
    `Postgres ${server.version.split(' ')[0]}`,
    formatBytes(server.sizeBytes),
    `conns ${server.connectionsUsed}/${server.connectionsMax}`,
    `hits ${reads === 0 ? '–' : formatShare(server.pagesHit / reads)}`,
    `tx ${formatSeconds(oldest)}`,
    `stats ${server.statsSeconds === null ? '–' : formatSeconds(server.statsSeconds)}`,
    `${statementsSeen ?? 'no'} stmts`,
  ].join('  ')
}

export interface TableSize {
  /** `articles.article` */
  name: string
  /** Estimated by Postgres. */
  rows: number
  sizeBytes: number
  indexBytes: number
}

const tablesShown = 20

/** The largest tables first. Of a partitioned one each partition is a table. Pure. */
export function largestTables({ tables }: Pick<Facts, 'tables'>): TableSize[] {
  return tables
    .filter(({ sizeBytes, indexBytes }) => sizeBytes + indexBytes > 0)
    .sort((a, b) => b.sizeBytes + b.indexBytes - a.sizeBytes - a.indexBytes)
    .slice(0, tablesShown)
    .map(({ schema, name, rows, sizeBytes, indexBytes }) => ({
      name: `${schema}.${name}`,
      rows,
      sizeBytes,
      indexBytes,
    }))
}

export function findingLines(finding: Finding): string[] {
  const { severity, what, evidence, gain, statement, sql, undo, kind, migration } = finding
  const numbers = Object.entries(evidence).map(([name, value]) => formatEvidence(name, value))
  return [
    ...hanging(severity.padEnd(6), filled(`${what} (${kind})`.split(' '), width - 6)),
    ...(numbers.length === 0 ? [] : row('seen', numbers.join(', '))),
    ...row('gain', gain),
    ...(statement === undefined ? [] : row('stmt', shortened(statement))),
    ...hanging('      do    ', sqlLines(sql)),
    ...hanging('      undo  ', sqlLines(undo)),
    ...(migration === undefined ? [] : [`      file  ${migration}`]),
  ]
}

/** What was found in the app's sources. */
export function keptLines({ severity, kind, file, line, what, remedy, changedAt }: Kept): string[] {
  return [
    ...hanging(severity.padEnd(6), filled(`${what} (${kind})`.split(' '), width - 6)),
    ...row('at', `${file}:${line}`),
    ...(changedAt.length === 0 ? [] : row('by', changedAt.join(', '))),
    ...row('do', remedy),
  ]
}

/** `2 to act on, 1 to look at.` */
export function summary(findings: readonly { severity: Severity }[]): string {
  if (findings.every(({ severity }) => severity === 'note')) return 'Nothing to do.'
  const phrases: Record<Severity, string> = { act: 'to act on', look: 'to look at', note: 'to know' }
  const parts = Object.entries(phrases).flatMap(([severity, phrase]) => {
    const count = findings.filter((finding) => finding.severity === severity).length
    return count > 0 ? [`${count} ${phrase}`] : []
  })
  return `${parts.join(', ')}.`
}

const units: [suffix: string, format: (value: number) => string][] = [
  ['Ms', formatMs],
  ['Bytes', formatBytes],
  ['Share', formatShare],
  ['Seconds', formatSeconds],
]

/** `meanMs: 45.2` → `mean 45 ms` */
function formatEvidence(name: string, value: number | string): string {
  const [suffix, format] = units.find(([suffix]) => name.endsWith(suffix)) ?? ['', formatNumber]
  const stem = suffix === 'Share' ? name : name.slice(0, name.length - suffix.length)
  const words = stem.replace(/[A-Z]/g, (letter) => ` ${letter.toLowerCase()}`)
  return `${words} ${typeof value === 'string' ? value : format(value)}`
}

function row(label: string, text: string): string[] {
  return hanging(`      ${label.padEnd(6)}`, filled(text.split(/\s+/), width - labelled))
}

function hanging(first: string, lines: readonly string[]): string[] {
  return lines.map((line, index) => (index === 0 ? first : ' '.repeat(first.length)) + line)
}

function shortened(statement: string): string {
  const line = inOneLine(statement)
  return line.length <= statementCharsMax ? line : `${line.slice(0, statementCharsMax - 2)} …`
}

/** Breaks SQL at blanks outside quotes; a comment stays one. */
function sqlLines(sql: string): string[] {
  return sql.split('\n').flatMap((line) => {
    const isComment = line.startsWith('--')
    const words = isComment ? line.slice(2).trim().split(' ') : (line.match(/(?:'[^']*'|"[^"]*"|[^\s'"])+/g) ?? [])
    return filled(words, width - labelled - 3).map((text, index) =>
      isComment ? `-- ${text}` : index === 0 ? text : `  ${text}`,
    )
  })
}

function filled(words: readonly string[], columns: number): string[] {
  const lines: string[] = []
  for (const word of words) {
    const last = lines.at(-1)
    if (last === undefined || last.length + 1 + word.length > columns) lines.push(word)
    else lines[lines.length - 1] = `${last} ${word}`
  }
  return lines
}
