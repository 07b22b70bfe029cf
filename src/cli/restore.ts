import path from 'node:path'
import { type Catalogue, readCatalogues, type Timeline } from '../backup/catalogue.ts'
import { type History, historyOf } from '../backup/history.ts'
import { archivedOf, choose, currentTimeline, ranges, type Window, windows } from '../backup/policy.ts'
import { restore } from '../backup/restore.ts'
import { systemClock } from '../kernel/clock.ts'
import { RungError } from '../kernel/errors.ts'
import { formatMs } from '../kernel/units.ts'
import { backupDirOf } from '../runtime/backups.ts'
import { iso, percent, second } from './backup.ts'
import type { Command, Input } from './command.ts'
import { toolBindings } from './input-settings.ts'

const command: Command = {
  name: 'restore',
  summary: 'make a new data directory from a backup',
  usage: 'rung restore --to <time|latest> --into <dir> [options]',
  wordsMax: 0,
  help: [
    'Makes a new data directory as the database was at that time: the newest base',
    'backup before it, and the log from there. It is started once to replay the log,',
    'and stopped. The current database, running or not, is not touched; to go on with',
    'the restored one, start the app on the new directory.',
    '',
    'The restored database is on a timeline of its own: it may archive to the same',
    'backup directory as the one it came from.',
  ].join('\n'),
  examples: [
    'rung restore --to latest --into .rung-restored',
    "rung restore --to '2026-11-03 10:15' --into /srv/data --from /mnt/backups",
  ],
  options: {
    to: { type: 'string', value: 'time', help: '"latest" or a time, UTC unless it names a zone.' },
    into: { type: 'string', value: 'dir', help: 'The new data directory; must not exist, or be empty.' },
    from: { type: 'string', value: 'dir', help: 'Instead of RUNG_BACKUP_DIR; default: backups in RUNG_DATA.' },
    system: {
      type: 'string',
      value: 'id',
      help: 'Which database, where the backups are of several; default: that of RUNG_DATA.',
    },
    timeline: {
      type: 'string',
      value: 'n',
      help: 'Which timeline; default: that of RUNG_DATA, else the one archived last.',
    },
  },
  async run(input) {
    const { values, cwd, json, out } = input
    const text = wanted(values.to, 'to')
    const into = path.resolve(cwd, wanted(values.into, 'into'))
    const time = text === 'latest' ? text : parseTime(text)
    const bindings = await toolBindings(input)
    const from = typeof values.from === 'string' ? path.resolve(cwd, values.from) : backupDirOf(bindings)
    const own = await historyOf(path.join(bindings.dataDir, 'postgres'))
    const catalogue = oneOf(await readCatalogues(from), values.system ?? own?.system, from, values.system !== undefined)
    const timeline = timelineOf(catalogue, values.timeline, own)
    const window = windowFor(catalogue, timeline, time)
    const began = systemClock.ticks()
    out.note(`from ${from}, database ${catalogue.system}, timeline ${timeline.id}, base backup ${window.base.id}`)
    const restored = await restore({
      catalogue,
      window,
      target: time === 'latest' ? { kind: 'end' } : { kind: 'time', at: time },
      into,
      lasting: true,
      onProgress: progress(out),
    })
    const durationMs = Math.round(systemClock.ticks() - began)
    const { lastTransactionAt, withSecret } = restored
    const near = path.relative(cwd, into)
    const start = `RUNG_DATA=${near.startsWith('..') ? into : near || '.'} rung start`
    if (json) {
      const last = lastTransactionAt === undefined ? null : iso(lastTransactionAt)
      out.json({ ...restored, lastTransactionAt: last, into, durationMs, start })
      return 0
    }
    out.line(`Restored ${time === 'latest' ? 'all that is archived' : iso(time)} in ${formatMs(durationMs)}`)
    out.line(
      `  last     ${lastTransactionAt === undefined ? 'nothing was written after the base backup' : `transaction ${iso(lastTransactionAt)}`}`,
    )
    out.line(
      `  keys     ${withSecret ? 'restored: tokens stay valid' : 'not in the backup: set the same RUNG_SECRET, or all tokens end'}`,
    )
    out.line(`  timeline ${restored.timeline}`)
    out.line(`  start    ${start}`)
    return 0
  },
}
export default command

function wanted(value: unknown, name: string): string {
  if (typeof value === 'string' && value !== '') return value
  throw new RungError('CONFIG_INVALID', `--${name} is missing. See: rung restore --help`)
}

function parseTime(text: string): number {
  const zoned = /(Z|[+-]\d\d:?\d\d)$/i.test(text.slice(10)) ? text : `${text}Z`
  const [, year, month, day] = /^(\d{4})-(\d\d)-(\d\d)[T ]\d\d:\d\d/.exec(text)?.map(Number) ?? []
  // Date.parse reads the 30th of February as the 2nd of March.
  const isDate = day !== undefined && day >= 1 && day <= new Date(Date.UTC(year!, month!, 0)).getUTCDate()
  const time = isDate ? Date.parse(zoned.replace(' ', 'T')) : Number.NaN
  if (!Number.isNaN(time)) return time
  throw new RungError(
    'CONFIG_INVALID',
    `--to "${text}" is not a time; write for example 2026-11-03T10:15:00Z, or latest.`,
  )
}

function oneOf(all: readonly Catalogue[], wanted: unknown, from: string, isNamed: boolean): Catalogue {
  const withBases = all.filter(({ bases }) => bases.length > 0)
  // The database of RUNG_DATA is only preferred: it may never have been archived here.
  const system = isNamed || withBases.some((one) => one.system === wanted) ? wanted : undefined
  const found = withBases.filter((catalogue) => system === undefined || catalogue.system === system)
  if (found.length === 1) return found[0]!
  if (found.length === 0) {
    const others =
      withBases.length === 0 ? '' : ` of ${system}, only of ${withBases.map((one) => one.system).join(', ')}`
    throw new RungError('BACKUP_NOT_FOUND', `There is no base backup in ${from}${others}. Name the place with --from.`)
  }
  const names = found.map((one) => `${one.system} (${one.bases.at(-1)!.id})`)
  throw new RungError(
    'CONFIG_INVALID',
    `${from} holds backups of several databases, with their newest: ${names.join(', ')}. Name one with --system.`,
  )
}

function timelineOf(catalogue: Catalogue, asked: unknown, own: History | undefined): Timeline {
  const found =
    asked === undefined
      ? (own?.system === catalogue.system && archivedOf(catalogue, own)) || currentTimeline(catalogue)
      : catalogue.timelines.find(({ id, segments }) => String(id) === asked && segments.length > 0)
  if (found) return found
  const ids = catalogue.timelines.map(({ id }) => id).join(', ')
  throw new RungError(
    'BACKUP_NOT_FOUND',
    `There is no log${asked === undefined ? '' : ` of timeline ${asked}`} in ${catalogue.folder}; there are timelines: ${ids || 'none'}.`,
  )
}

function windowFor(catalogue: Catalogue, timeline: Timeline, time: number | 'latest'): Window {
  const all = windows(catalogue, timeline)
  const window = choose(all, time)
  if (window) return window
  const possible = ranges(all)
  const inWords = possible.map(({ from, to }) => `${second(from + 999)} to ${second(to)}`).join(', ')
  throw new RungError(
    'BACKUP_OUT_OF_RANGE',
    possible.length === 0
      ? `No base backup in ${catalogue.folder} has its log on timeline ${timeline.id}. Run rung backup verify to see why.`
      : `The backups on timeline ${timeline.id} reach (UTC): ${inWords}. Give a time within, or latest.`,
    { facts: { ranges: possible.map(({ from, to }) => ({ from: iso(from), to: iso(to) })) } },
  )
}

function progress(out: Input['out']) {
  const copy = percent(out, 'copying the data')
  return (stage: 'copy' | 'log' | 'replay', done: number | string, total?: number) => {
    if (stage === 'copy') copy(Number(done), total!)
    if (stage === 'log' && (done === total || Number(done) % 50 === 0))
      out.note(`copying the log: ${done} of ${total} segments`)
    if (stage === 'log' && done === total) out.note('replaying the log')
    if (stage === 'replay') out.note(`replaying the log: ${done}`)
  }
}
