import { RungError } from '../kernel/errors.ts'
import { type Duration, formatMs, toMs } from '../kernel/units.ts'
import { readSightings, type Sighting, sightingsKeptForMs } from '../observe/sighting-table.ts'
import { type Command, databaseSettings, numberOption, result, settingOptions } from './command.ts'
import { withOpenDatabase } from './database.ts'
import { cut, cutStart, second, tableLines } from './table.ts'

const statements: Command = {
  name: 'statements',
  summary: 'list slow statements and N+1, with route and plan',
  usage: 'rung statements [id] [options]',
  wordsMax: 1,
  help: [
    'Lists the statements that the processes of the app have noticed, the worst first: those that',
    'took 100 ms or more, with the time they took in total; those that gave up waiting for a lock;',
    'and those that one request or job ran ten times or more (N+1). With the id of one: all of',
    'it, with its place in the code and the plan. Statements are without values.',
    '',
    'Those that differ only in their values, and in how many they list, are one. They are kept',
    'for 7 days: of each kind the 100 worst, and the 100 that were seen last. They are some',
    'seconds late. What could be done about them: rung doctor.',
  ].join('\n'),
  settings: databaseSettings,
  examples: ['rung statements', 'rung statements --since 1h --kind slow', 'rung statements 4f0c21ab97 --json'],
  options: {
    since: { type: 'string', value: 'time', help: 'Only what was seen within this time: 30m, 24h (7d).' },
    kind: { type: 'string', value: 'kind', help: 'slow, lock-wait or n-plus-one.' },
    last: { type: 'string', value: 'number', help: 'How many of each kind are shown (20).' },
    ...settingOptions('process.dataDir'),
  },
  async run(input) {
    const { values, positionals, out } = input
    const [id] = positionals
    const kind = values.kind as Sighting['kind'] | undefined
    if (kind !== undefined && !Object.hasOwn(titles, kind)) {
      const known = Object.keys(titles).join(', ')
      throw new RungError('COMMAND_INVALID', `--kind is "${kind}"; it must be one of ${known}.`)
    }
    const sinceMs = values.since === undefined ? sightingsKeptForMs : toMs(values.since as Duration)
    const last = numberOption(input, 'last', { max: 1_000, otherwise: 20 })
    const all = await withOpenDatabase(input, ({ database }) => readSightings(database, sinceMs))
    if (id === undefined) {
      const shown = kinds.flatMap((one) => {
        const own = all.filter((seen) => seen.kind === one && (kind === undefined || kind === one))
        return own.sort(worstFirst).slice(0, last)
      })
      return result(shown, () => {
        if (shown.length === 0) out.line('Nothing was slow, and nothing ran again and again.')
        for (const line of listLines(shown)) out.line(line)
      })
    }
    const found = all.filter(({ fingerprint }) => fingerprint.startsWith(id))
    if (found.length !== 1) {
      const what = found.length === 0 ? 'no statement' : 'more than one statement'
      throw new RungError('COMMAND_INVALID', `There is ${what} that begins with "${id}". See: rung statements`)
    }
    return result(found[0]!, (seen) => {
      for (const line of oneLines(seen)) out.line(line)
    })
  },
}
export default statements

const titles: Readonly<Record<Sighting['kind'], string>> = {
  slow: 'Slow: took 100 ms or more',
  'lock-wait': 'Gave up waiting for a lock',
  'n-plus-one': 'N+1: ran ten times or more in one request or job',
}
const kinds = Object.keys(titles) as Sighting['kind'][]

function worstFirst(a: Sighting, b: Sighting): number {
  return (b.totalMs ?? 0) - (a.totalMs ?? 0) || b.count - a.count
}

const widths = [10, -8, -8, -7, 39]

function listLines(all: readonly Sighting[]): string[] {
  return kinds.flatMap((kind) => {
    const own = all.filter((seen) => seen.kind === kind)
    if (own.length === 0) return []
    const rows = own.flatMap(({ fingerprint, totalMs, worstMs, count, route, statement }) => [
      ...tableLines(widths, [[fingerprint, msText(totalMs), msText(worstMs), String(count), whereText(route)]]),
      `  ${cut(statement.replace(/\s+/g, ' ').trim(), 78)}`,
    ])
    return [titles[kind], ...tableLines(widths, [['id', 'total', 'worst', 'seen', 'where']]), ...rows, '']
  })
}

function oneLines({ kind, statement, plan, ...seen }: Sighting): string[] {
  const facts: [string, string][] = [
    ['where', whereText(seen.route)],
    ['module', seen.module ?? ''],
    ['at', cutStart(seen.site, 70)],
    ['seen', `${seen.count} times, from ${second(Date.parse(seen.firstAt))} to ${second(Date.parse(seen.at))} UTC`],
    ['total', msText(seen.totalMs)],
    ['worst', msText(seen.worstMs)],
    ['rows', seen.rows === null ? '' : `${seen.rows} (${(seen.rows / seen.count).toFixed(1)} each time)`],
  ]
  return [
    `${seen.fingerprint}  ${titles[kind]}`,
    ...facts.filter(([, text]) => text !== '').map(([head, text]) => `  ${head.padEnd(7)} ${text}`),
    '',
    ...statement.trim().split('\n'),
    ...(plan === null ? [] : ['', ...plan.split('\n')]),
  ]
}

const msText = (ms: number | null) => (ms === null ? '' : formatMs(Math.round(ms)))
const whereText = (route: string) => route || '(no request or job)'
