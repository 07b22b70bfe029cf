import { statSync } from 'node:fs'
import path from 'node:path'
import { checkHistory, counterExample, type HistoryOptions } from '../history/check.ts'
import { linesOfHistory } from '../history/file.ts'
import type { Kind, Operation } from '../history/operation.ts'
import { tellFew } from '../history/tell.ts'
import { RungError } from '../kernel/errors.ts'
import { type Command, hanging, type Input, numberOption, result } from './command.ts'
import { tableLines } from './table.ts'

const history: Command = {
  name: 'history',
  summary: 'check what clients did and saw against what they were promised',
  usage: 'rung history check <file> [options]',
  wordsMax: 2,
  help: [
    'Reads a history, the JSON lines that a recorder of "rung/history" has written, and runs',
    'every checker on it. Each anomaly is told with the fewest operations that still show it.',
    '',
    'Exits with 1 if there is an anomaly, and if there was nothing to check: a verdict of no',
    'answers says nothing.',
  ].join('\n'),
  examples: [
    'rung history check history.jsonl',
    'rung history check history.jsonl --json',
    'rung history check history.jsonl --closed --initial anna=100,bob=50',
  ],
  options: {
    initial: {
      type: 'string',
      value: 'amounts',
      help: 'What the accounts held before: "anna=100,bob=50". Default: what a snapshot before the first change shows.',
    },
    least: { type: 'string', value: 'number', help: 'No account may ever hold less.' },
    closed: { type: 'boolean', help: 'Changes only move amounts, so that all accounts together always hold the same.' },
    show: { type: 'string', value: 'number', help: 'How many anomalies of each checker are shown (3).' },
  },
  async run(input) {
    const options = { conservation: conservationIn(input) }
    const view = check(await historyIn(input), options, numberOption(input, 'show', { max: 20, otherwise: 3 }))
    const isKept = view.verdicts.some(({ checked }) => checked > 0) && view.verdicts.every(({ count }) => count === 0)
    return result(view, (found) => print(found, input.out), isKept ? 0 : 1)
  },
}
export default history

interface Found {
  operations: number
  /** What one should know of the verdicts. */
  notes: readonly string[]
  verdicts: {
    checker: string
    checked: number
    count: number
    anomalies: { text: string; steps: readonly string[]; operations: readonly Operation[] }[]
  }[]
}

/** @throws COMMAND_INVALID, HISTORY_INVALID */
async function historyIn({ positionals, cwd }: Input): Promise<{ operations: readonly Operation[]; isCut: boolean }> {
  const [verb, name] = positionals
  if (verb !== 'check' || name === undefined)
    throw new RungError('COMMAND_INVALID', 'Name the file of a history, for example: rung history check history.jsonl')
  const file = path.resolve(cwd, name)
  if (!statSync(file, { throwIfNoEntry: false })?.isFile())
    throw new RungError('COMMAND_INVALID', `There is no file ${name}. Name a file that a recorder has written.`)
  return linesOfHistory(file)
}

/** @throws COMMAND_INVALID */
function conservationIn({ values }: Input): NonNullable<HistoryOptions['conservation']> {
  const { initial, least, closed } = values
  const amount = (text: string, option: string) => {
    if (text.trim() !== '' && Number.isFinite(Number(text))) return Number(text)
    throw new RungError('COMMAND_INVALID', `--${option} needs a number; it has "${text}". See: rung history --help`)
  }
  const entry = (text: string) => {
    const at = Math.max(0, text.lastIndexOf('='))
    return [text.slice(0, at).trim(), amount(text.slice(at + 1), 'initial')] as const
  }
  return {
    ...(initial !== undefined && { initial: Object.fromEntries(String(initial).split(',').map(entry)) }),
    ...(least !== undefined && { least: amount(String(least), 'least') }),
    ...(closed === true && { closed }),
  }
}

function check(
  { operations, isCut }: Awaited<ReturnType<typeof historyIn>>,
  options: HistoryOptions,
  shown: number,
): Found {
  const has = (kind: Kind, isFresh = false) => operations.some((one) => one.kind === kind && (!isFresh || one.fresh))
  const notes = [
    ...(isCut ? ['The last line is incomplete, as after a kill, and was left out.'] : []),
    ...(has('change') && !has('levels', true) ? ['Nothing to check for conservation: no snapshot is fresh.'] : []),
  ]
  const verdicts = checkHistory(operations, options).map(({ checker, checked, count, anomalies }) => ({
    checker,
    checked,
    count,
    anomalies: anomalies.slice(0, shown).map((anomaly) => {
      const few = counterExample(operations, { checker, anomaly, options })
      return { text: anomaly.text, steps: tellFew(few, operations), operations: few }
    }),
  }))
  return { operations: operations.length, notes, verdicts }
}

function print({ operations, notes, verdicts }: Found, out: Input['out']): void {
  const says = verdicts.filter(({ checked, count }) => checked > 0 || count > 0)
  const silent = verdicts.filter((verdict) => !says.includes(verdict)).map(({ checker }) => checker)
  const figures = (number: number) => number.toLocaleString('en')
  out.line(`${figures(operations)} operations`)
  if (says.length > 0) {
    const rows = says.map(({ checker, checked, count }) => [checker, figures(checked), figures(count)])
    for (const line of tableLines([20, -12, -10], [['checker', 'checked', 'anomalies'], ...rows])) out.line(line)
  }
  if (silent.length > 0) for (const line of hanging('', `Nothing to check for ${silent.join(', ')}.`)) out.line(line)
  for (const note of notes) for (const line of hanging('', note)) out.line(line)
  for (const { checker, count, anomalies } of says) {
    anomalies.forEach(({ text, steps }, index) => {
      out.line()
      for (const line of hanging('', `${checker}, ${index + 1} of ${figures(count)}: ${text}`)) out.line(line)
      for (const step of steps) for (const line of hanging('  ', step)) out.line(line)
    })
  }
}
