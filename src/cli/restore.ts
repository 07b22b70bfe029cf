import path from 'node:path'
import { historyOf } from '../backup/history.ts'
import { type RestoreOptions, restore } from '../backup/restore.ts'
import { selectBackup } from '../backup/select.ts'
import { primaryPlace } from '../engines/postgres/members.ts'
import { systemClock } from '../kernel/clock.ts'
import { RungError } from '../kernel/errors.ts'
import { formatMs } from '../kernel/units.ts'
import { backupPlace } from '../runtime/backups.ts'
import { copyProgress } from './backup.ts'
import { type Command, type Input, result, settingOptions } from './command.ts'
import { toolBindings } from './input-settings.ts'
import { iso } from './table.ts'

/** Which backup is restored, and where. */
export const restoreOptions: Command['options'] = {
  into: { type: 'string', value: 'dir', help: 'The new data directory; must not exist, or be empty.' },
  from: { type: 'string', value: 'dir|s3', help: 'The folder, or s3 for the bucket; default: RUNG_BACKUP_DIR.' },
  system: { type: 'string', value: 'id', help: 'Which database, if there are several; default: that of RUNG_DATA.' },
  timeline: {
    type: 'string',
    value: 'n',
    help: 'Which timeline; default: that of RUNG_DATA, otherwise the one archived last.',
  },
}

export const restoreSettings = ['backup.dir', 'backup.url', 'backup.key', 'process.dataDir', 'process.config'] as const

const command: Command = {
  name: 'restore',
  summary: 'create a data directory from a backup',
  usage: 'rung restore --to <time|latest> --into <dir> [options]',
  wordsMax: 0,
  help: [
    'Creates a data directory with the database as it was at that time, from the newest',
    'base backup before it and the log since then. Postgres is started once to replay',
    'the log, and stopped. The current database, running or not, is not touched; to',
    'continue with the restored one, start the app on the new directory.',
    '',
    'The restored database is on a timeline of its own, so it may archive to the same',
    'backup directory as the original.',
    '',
    'On an empty machine: set RUNG_BACKUP_S3_URL and RUNG_BACKUP_KEY, and restore --from s3.',
  ].join('\n'),
  settings: restoreSettings,
  examples: [
    'rung restore --to latest --into .rung-restored',
    "rung restore --to '2026-11-03 10:15' --into /srv/data --from /mnt/backups",
    'rung restore --from s3 --to latest --into .rung',
  ],
  options: {
    ...settingOptions('process.dataDir'),
    to: { type: 'string', value: 'time', help: '"latest", or a time; UTC unless it names a zone.' },
    ...restoreOptions,
  },
  async run(input) {
    const { cwd, out } = input
    const to = required(input, command, 'to')
    const { into, durationMs, lastTransactionAt, ...restored } = await restoreBy(input, command, to)
    const near = path.relative(cwd, into)
    const view = {
      ...restored,
      lastTransactionAt: lastTransactionAt === undefined ? null : iso(lastTransactionAt),
      into,
      durationMs,
      start: `RUNG_DATA=${near.startsWith('..') ? into : near || '.'} rung start`,
    }
    return result(view, () => {
      const last = view.lastTransactionAt
      out.line(
        `Restored ${to === 'latest' ? 'all that is archived' : iso(parseTime(to))} in ${formatMs(view.durationMs)}`,
      )
      out.line(`  last     ${last === null ? 'nothing was written after the base backup' : `transaction ${last}`}`)
      out.line(
        `  keys     ${view.withSecret ? 'restored: tokens stay valid' : 'not in the backup: set the same RUNG_SECRET, or all tokens become invalid'}`,
      )
      out.line(`  timeline ${view.timeline}`)
      out.line(`  start    ${view.start}`)
    })
  },
}
export default command

/** Restores what the options of a command say, to a time or to `latest`; into an isolated data directory if a `look` changes it. */
export async function restoreBy(input: Input, by: Command, to: string, look?: RestoreOptions['look']) {
  const { values, cwd, out } = input
  const time = to === 'latest' ? to : parseTime(to)
  const into = path.resolve(cwd, required(input, by, 'into'))
  const bindings = await toolBindings(input)
  const place = backupPlace(bindings, values.from, cwd)
  const own = await historyOf((await primaryPlace(bindings.dataDir)).dataFolder)
  const { system, timeline } = values as { system?: string; timeline?: string }
  const { catalogue, window } = await selectBackup({ place, time, system, timeline, own })
  out.note(
    `from ${place.name}, database ${catalogue.system}, timeline ${window.timeline}, base backup ${window.base.id}`,
  )
  const began = systemClock.ticks()
  const restored = await restore({
    place,
    catalogue,
    window,
    target: time === 'latest' ? { kind: 'end' } : { kind: 'time', at: time },
    into,
    isolated: look !== undefined,
    onProgress: progress(out),
    ...(look && { look }),
  })
  return { ...restored, into, durationMs: Math.round(systemClock.ticks() - began) }
}

function required({ values }: Input, by: Command, name: string): string {
  const value = values[name]
  if (typeof value === 'string' && value !== '') return value
  throw new RungError('COMMAND_INVALID', `--${name} is missing. See: rung ${by.name} --help`)
}

function parseTime(text: string): number {
  const zoned = /(Z|[+-]\d\d:?\d\d)$/i.test(text.slice(10)) ? text : `${text}Z`
  const [, year, month, day] = /^(\d{4})-(\d\d)-(\d\d)[T ]\d\d:\d\d/.exec(text)?.map(Number) ?? []
  // Date.parse reads the 30th of February as the 2nd of March.
  const isDate = day !== undefined && day >= 1 && day <= new Date(Date.UTC(year!, month!, 0)).getUTCDate()
  const time = isDate ? Date.parse(zoned.replace(' ', 'T')) : Number.NaN
  if (!Number.isNaN(time)) return time
  throw new RungError(
    'COMMAND_INVALID',
    `--to "${text}" is not a time; write for example 2026-11-03T10:15:00Z, or latest.`,
  )
}

function progress(out: Input['out']): NonNullable<RestoreOptions['onProgress']> {
  const copy = copyProgress(out)
  return (stage, done, total) => {
    if (stage === 'copy') copy(Number(done), total!)
    if (stage === 'log' && (done === total || Number(done) % 50 === 0))
      out.note(`copying the log: ${done} of ${total} segments`)
    if (stage === 'replay') out.note(`replaying the log: ${done}`)
  }
}
