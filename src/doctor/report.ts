import { formatBytes, formatMs } from '../kernel/units.ts'
import type { Facts } from './facts.ts'
import { type Finding, formatNumber, formatSeconds, formatShare, type Severity } from './finding.ts'

/** The examination for people: lines of at most 80 columns. Pure. */

const width = 80
const labelled = 12 // columns before the text: six for the severity, six for the label
const statementCharsMax = 3 * (width - labelled)

/** Version, size, connections, cache hits, oldest transaction, age of the counters, statements seen. */
export function strip({ server, sessions, statementsSeen }: Facts): string {
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

export function findingLines(finding: Finding): string[] {
  const { severity, what, evidence, gain, statement, sql, undo, kind } = finding
  const numbers = Object.entries(evidence).map(([name, value]) => formatEvidence(name, value))
  return [
    ...hanging(severity.padEnd(6), wrapped(`${what} (${kind})`, width - 6)),
    ...(numbers.length === 0 ? [] : row('seen', numbers.join(', '))),
    ...row('gain', gain),
    ...(statement === undefined ? [] : row('stmt', shortened(statement))),
    ...hanging('      do    ', sqlLines(sql)),
    ...hanging('      undo  ', sqlLines(undo)),
  ]
}

/** `2 to act on, 1 to look at.` */
export function summary(findings: readonly Finding[]): string {
  const words: [Severity, string][] = [
    ['act', 'to act on'],
    ['look', 'to look at'],
    ['note', 'to know'],
  ]
  const parts = words.flatMap(([severity, phrase]) => {
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

/** `meanMs: 45.2` → `mean 45 ms`; the unit is the end of the name. */
export function formatEvidence(name: string, value: number | string): string {
  const unit = units.find(([suffix]) => name.endsWith(suffix))
  const isTaken = unit !== undefined && unit[0] !== 'Share'
  const words = (isTaken ? name.slice(0, -unit[0].length) : name).replace(
    /[A-Z]/g,
    (letter) => ` ${letter.toLowerCase()}`,
  )
  if (typeof value === 'string') return `${words} ${value}`
  return `${words} ${unit ? unit[1](value) : formatNumber(value)}`
}

function row(label: string, text: string): string[] {
  return hanging(`      ${label.padEnd(6)}`, wrapped(text, width - labelled))
}

function hanging(first: string, lines: readonly string[]): string[] {
  return lines.map((line, at) => (at === 0 ? first : ' '.repeat(first.length)) + line)
}

function shortened(statement: string): string {
  const line = statement.replace(/\s+/g, ' ').trim()
  return line.length <= statementCharsMax ? line : `${line.slice(0, statementCharsMax - 2)} …`
}

/** Broken where SQL may be broken: at blanks outside quotes; a comment stays one. */
function sqlLines(sql: string): string[] {
  return sql.split('\n').flatMap((line) => {
    const isComment = line.startsWith('--')
    const words = isComment ? line.slice(2).trim().split(' ') : (line.match(/(?:'[^']*'|"[^"]*"|[^\s'"])+/g) ?? [])
    return filled(words, width - labelled - 3).map((text, at) =>
      isComment ? `-- ${text}` : at === 0 ? text : `  ${text}`,
    )
  })
}

function wrapped(text: string, columns: number): string[] {
  return filled(text.split(/\s+/), columns)
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
