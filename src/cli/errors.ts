import { RungError } from '../kernel/errors.ts'
import { type Duration, toMs } from '../kernel/units.ts'
import type { ErrorSample } from '../observe/error-shape.ts'
import { type ErrorGroup, errorUsersMax, readErrors } from '../primitives/upkeep/errors.ts'
import { openPrimary } from '../runtime/wire.ts'
import { type Command, databaseSettings, numberOption, result, settingOptions } from './command.ts'
import { withServer } from './database.ts'
import { toolBindings } from './input-settings.ts'
import { cut, cutStart, second, tableLines } from './table.ts'

const errors: Command = {
  name: 'errors',
  summary: 'list the errors of the app, grouped',
  usage: 'rung errors [group] [options]',
  wordsMax: 1,
  help: [
    'Lists the errors of requests (status 500 and above), jobs, events, and of what nobody',
    'waited for, the newest first. Errors with the same kinds that passed the same functions',
    'of the app are one group, whatever their messages and lines: a group outlives releases.',
    'With the name of a group: its releases, and the newest of its errors.',
    '',
    'Groups are kept for 90 days. They are a few seconds late. Users are those whom the app',
    'had identified when their request failed.',
  ].join('\n'),
  settings: databaseSettings,
  examples: [
    'rung errors',
    'rung errors --since 1h',
    'rung errors 4f0c21ab97',
    'rung errors --release 05f545701b66 --json',
  ],
  options: {
    since: { type: 'string', value: 'time', help: 'Only what happened within this time: 30m, 24h (7d).' },
    release: { type: 'string', value: 'build', help: 'Only those that this build had.' },
    last: { type: 'string', value: 'number', help: 'How many are shown (20).' },
    ...settingOptions('process.dataDir'),
  },
  async run(input) {
    const { values, positionals, cwd, out } = input
    const [name] = positionals
    const sinceMs = toMs((values.since ?? (name === undefined ? '7d' : '90d')) as Duration)
    const last = numberOption(input, 'last', { max: 1_000, otherwise: 20 })
    const bindings = await toolBindings(input)
    const rows = await withServer(bindings, cwd, async ({ connection }) => {
      const database = openPrimary(bindings.data, connection)
      return readErrors<ErrorSample>(database, sinceMs).finally(() => database.close())
    })
    const all = groupsOf(rows).filter(
      ({ releases }) => values.release === undefined || releases.some(({ release }) => release === values.release),
    )
    if (name === undefined) {
      return result(all.slice(0, last), (groups) => {
        if (groups.length === 0) return out.line('No errors.')
        for (const line of listLines(groups)) out.line(line)
        if (all.length > groups.length) out.line(`${all.length - groups.length} more: --last ${all.length}`)
      })
    }
    const found = all.filter(({ fingerprint }) => fingerprint.startsWith(name))
    if (found.length !== 1) {
      const what = found.length === 0 ? 'no group' : 'more than one group'
      throw new RungError('COMMAND_INVALID', `There is ${what} of errors that begins with "${name}". See: rung errors`)
    }
    return result(found[0]!, (group) => {
      for (const line of groupLines(group)) out.line(line)
    })
  },
}
export default errors

interface Group extends Omit<ErrorGroup<ErrorSample>, 'release' | 'users'> {
  users: number
  /** The newest first. */
  releases: { release: string; firstAt: string; lastAt: string; count: number; users: number }[]
}

/** Puts the releases of each group together. The rows are the newest first. */
function groupsOf(rows: readonly ErrorGroup<ErrorSample>[]): Group[] {
  return [...Map.groupBy(rows, ({ fingerprint }) => fingerprint).values()].map((own) => {
    const { fingerprint, lastAt, sample } = own[0]!
    return {
      ...{ fingerprint, lastAt, sample },
      firstAt: own.map(({ firstAt }) => firstAt).sort()[0]!,
      count: own.reduce((sum, { count }) => sum + count, 0),
      users: new Set(own.flatMap(({ users }) => users)).size,
      releases: own.map(({ release, users, ...times }) => ({
        ...{ release, firstAt: times.firstAt, lastAt: times.lastAt, count: times.count },
        users: users.length,
      })),
    }
  })
}

function listLines(groups: readonly Group[]): string[] {
  const head = ['group', 'last seen', 'count', 'users', 'where']
  const rows = groups.flatMap(({ fingerprint, lastAt, count, users, sample }) => [
    [fingerprint, second(Date.parse(lastAt)), String(count), usersText(users), sample.where],
    ['', titleOf(sample, 78)],
  ])
  return [head, ...rows].flatMap((cells) =>
    cells[0] === '' ? [`  ${cells[1]}`] : tableLines([10, 19, -6, -6, 31], [cells]),
  )
}

function groupLines({ fingerprint, firstAt, lastAt, count, users, releases, sample }: Group): string[] {
  const rows = releases.map((one) => [
    one.release,
    second(Date.parse(one.firstAt)),
    second(Date.parse(one.lastAt)),
    String(one.count),
    usersText(one.users),
  ])
  return [
    `${fingerprint}  ${sample.where}`,
    `${count} times for ${usersText(users)} users, from ${second(Date.parse(firstAt))} to ${second(Date.parse(lastAt))}`,
    '',
    ...tableLines([14, 19, 19, -6, -6], [['release', 'first seen', 'last seen', 'count', 'users'], ...rows]),
    '',
    ...sample.errors.flatMap(({ name, code, message, stack }, depth) => [
      `${depth === 0 ? '' : 'caused by '}${code === undefined ? name : `${name} ${code}`}: ${message}`,
      ...stack.map((line) => `  ${line}`),
    ]),
    ...(sample.traceId === undefined ? [] : ['', `trace ${sample.traceId}`]),
    ...(sample.requestId === undefined ? [] : [`request ${sample.requestId}`]),
  ]
}

/** The innermost cause says most. */
function titleOf({ errors, at }: ErrorSample, charsMax: number): string {
  const { name, code, message } = errors.at(-1)!
  const kind = code === undefined ? name : `${name} ${code}`
  const place = at === undefined ? '' : `  ${cutStart(at, 40)}`
  return `${cut(`${kind}: ${message}`.replace(/\s+/g, ' '), charsMax - place.length)}${place}`
}

function usersText(users: number): string {
  return users >= errorUsersMax ? `${errorUsersMax}+` : String(users)
}
