import path from 'node:path'
import { type Bucket, openBucket } from '../backup/bucket.ts'
import { cipherOf } from '../backup/cipher.ts'
import { type Comparison, drill } from '../backup/drill.ts'
import { folderPlace } from '../backup/folder.ts'
import { historyOf } from '../backup/history.ts'
import { backUp, joinArchive, keepBackups, type Tell, usable } from '../backup/keep.ts'
import type { Place } from '../backup/place.ts'
import { type BackupList, listBackups, type Outside, outsideOf, verifyBackups } from '../backup/report.ts'
import { onSameDisk, sameDiskWarning } from '../backup/same-disk.ts'
import { primaryPlace } from '../engines/postgres/members.ts'
import { runningFleet } from '../fleet/state.ts'
import { systemClock } from '../kernel/clock.ts'
import { isRungError, messageOf, RungError } from '../kernel/errors.ts'
import { formatLsn, parseLsn } from '../kernel/position.ts'
import { secret } from '../kernel/random.ts'
import { formatBytes, formatMs } from '../kernel/units.ts'
import { backupDirOrOwn, backupPlace, backupSource, refuseExternal } from '../runtime/backups.ts'
import type { DatabaseServer } from '../runtime/wire.ts'
import type { ToolBindings } from '../topology/bindings.ts'
import { type Command, type Input, numberOption, type Result, result, settingOptions } from './command.ts'
import { withServer } from './database.ts'
import { toolBindings } from './input-settings.ts'
import { noteDrill } from './proved.ts'
import { stopOnSignal } from './stop-on-signal.ts'
import { iso, second, tableLines } from './table.ts'

const backup: Command = {
  name: 'backup',
  summary: 'back up the database, list and check backups',
  usage: 'rung backup [list|verify|drill|key] [options]',
  help: [
    'Takes a base backup now, whether the app runs or not, with the log that it needs.',
    '"rung start" and "rung up" with RUNG_BACKUP_DIR or RUNG_BACKUP_S3_URL set do more by',
    'themselves: they archive the log continuously, so that at most a second can be lost, and',
    'take a base backup each day; the last RUNG_BACKUP_KEEP (7) are kept. "rung backup',
    '--stream" does the same in a process of its own.',
    '',
    'list    lists the backups, which times can be restored, how far the bucket is',
    'verify  reads every file, compares it with its SHA-256, and looks for gaps in',
    '        the log; with --drill it also drills',
    'drill   restores the latest to a temporary folder, reads each table, and',
    '        compares it with the live database, if there is one here; for that,',
    '        writers wait a few milliseconds',
    'key     makes a key for RUNG_BACKUP_KEY, which encrypts backups in a bucket',
    '',
    'A backup holds all data and the root of the keys (.rung/secret): protect it like',
    'the database, and put it on another disk, or into a bucket.',
    '',
    'Exit code: 0 good; 1 an error, a damaged file or a difference.',
  ].join('\n'),
  examples: [
    'rung backup --to /mnt/backups',
    'RUNG_BACKUP_DIR=/mnt/backups rung backup verify --drill',
    'rung backup drill --from s3',
  ],
  settings: ['backup', 'process.dataDir', 'process.config'],
  options: {
    ...settingOptions('process.dataDir'),
    to: { type: 'string', value: 'dir', help: 'Instead of RUNG_BACKUP_DIR; default: backups in RUNG_DATA.' },
    from: {
      type: 'string',
      value: 'dir|s3',
      help: 'With list, verify and drill: another folder, or s3 for the bucket.',
    },
    stream: { type: 'boolean', help: 'Archive the log until Ctrl-C.' },
    port: {
      type: 'string',
      value: 'number',
      help: 'With --stream: serve /healthz and /metrics here, on this machine.',
    },
    drill: { type: 'boolean', help: 'With verify: drill too.' },
    system: { type: 'string', value: 'id', help: 'With drill: which database, if there are several.' },
    timeline: { type: 'string', value: 'n', help: 'With drill: which timeline, if copies went on beside each other.' },
  },
  async run(input) {
    const { values, cwd } = input
    const verb = verbOf(input)
    if (verb === 'key') return newKey(input)
    const bindings = await toolBindings(input)
    const backupDir = typeof values.to === 'string' ? path.resolve(cwd, values.to) : backupDirOrOwn(bindings)
    if (verb === 'once' || verb === 'stream') {
      return withBackups(input, bindings, async (server) => {
        const folder = await usable(backupDir)
        return verb === 'stream' ? stream(input, bindings, server, folder) : once(input, bindings, server, folder)
      })
    }
    const place = values.from === undefined ? folderPlace(backupDir) : backupPlace(bindings, values.from, cwd)
    if (verb === 'list') return list(input, bindings, place)
    if (verb === 'verify') return verify(input, bindings, place, backupDir)
    return drillOnly(input, bindings, place, backupDir)
  },
}
export default backup

const readers = ['list', 'verify', 'drill', 'key'] as const
/** The options that each verb takes, besides those of all. */
const optionsOf = {
  once: ['to'],
  stream: ['to', 'stream', 'port'],
  list: ['to', 'from'],
  verify: ['to', 'from', 'drill', 'system', 'timeline'],
  drill: ['to', 'from', 'system', 'timeline'],
  key: [],
} as const
type Verb = keyof typeof optionsOf

/** @throws COMMAND_INVALID for an option that the command would ignore */
function verbOf({ positionals, values }: Input): Verb {
  const word = readers.find((one) => one === positionals[0])
  const verb = word ?? (values.stream ? 'stream' : 'once')
  const given = ['to', 'from', 'stream', 'port', 'drill', 'system', 'timeline'].filter(
    (name) => values[name] !== undefined,
  )
  const unknown = given.find((name) => !(optionsOf[verb] as readonly string[]).includes(name))
  if (
    positionals.length === (word ? 1 : 0) &&
    unknown === undefined &&
    !(given.includes('to') && given.includes('from'))
  )
    return verb
  const asGiven = [...positionals, ...given.map((name) => `--${name}`)].join(' ')
  throw new RungError('COMMAND_INVALID', `rung backup does not take "${asGiven}". See: rung backup --help`)
}

function newKey({ out }: Input): Result {
  const key = secret()
  return result({ key, id: cipherOf(key).keyId }, (made) => {
    out.line(`RUNG_BACKUP_KEY=${made.key}`)
    out.note('Keep it where it survives this machine: without it nobody can read the backups in the bucket.')
  })
}

async function withBackups<T>(
  { cwd }: Input,
  bindings: ToolBindings,
  fn: (server: DatabaseServer) => Promise<T>,
): Promise<T> {
  refuseExternal(bindings)
  // A fleet restarts its Postgres itself; a second start would compete with it.
  return withServer(bindings, cwd, fn, (await runningFleet(bindings.dataDir)) ? 'join' : 'attach')
}

async function once(
  { out }: Input,
  bindings: ToolBindings,
  server: DatabaseServer,
  backupDir: string,
): Promise<Result> {
  const sameDisk = !bindings.backup.bucket && (await onSameDisk(bindings.dataDir, backupDir))
  if (sameDisk) out.note(sameDiskWarning(backupDir))
  const began = systemClock.ticks()
  const source = backupSource(bindings, server, backupDir)
  const archive = await joinArchive(source)
  const bucket = source.outside?.bucket.name
  async function take() {
    const taken = await backUp(source, { archived: archive.reached, onProgress: copyProgress(out) })
    if (bucket !== undefined && archive.own) out.note(`copying it to ${bucket}`)
    if (archive.own) await archive.uploaded(parseLsn(taken.stopLsn)!)
    return taken
  }
  const base = await take().finally(archive.stop)
  const durationMs = Math.round(systemClock.ticks() - began)
  const secretKept = base.files.some(({ name }) => name === 'secret')
  const copied = bucket === undefined ? null : { bucket, done: archive.own }
  return result({ ...base, backupDir, copied, sameDisk, secretKept, durationMs }, () => {
    out.line(`Base backup ${base.id} in ${formatMs(durationMs)}`)
    out.line(`  data     ${formatBytes(base.files[0]!.bytes)}, position ${base.stopLsn}, timeline ${base.timeline}`)
    out.line(`  in       ${backupDir}`)
    if (copied) out.line(`  copy     ${copied.done ? 'in' : 'the process that archives copies it to'} ${copied.bucket}`)
    out.line(`  keys     ${secretKept ? 'their root (.rung/secret) is included' : 'not included: keep RUNG_SECRET'}`)
  })
}

async function stream(
  input: Input,
  bindings: ToolBindings,
  server: DatabaseServer,
  backupDir: string,
): Promise<Result> {
  const { out, values } = input
  const stopped = stopOnSignal(input)
  const failed = Promise.withResolvers<never>()
  const tell: Tell = (level, _event, message, facts) => {
    if (isRungError(facts?.err, 'BACKUP_RUNNING')) failed.reject(facts.err)
    else if (level !== 'debug') out.note(`${iso(systemClock.now())} ${message}`)
  }
  let closeDoor: (() => void) | undefined
  if (values.port !== undefined) {
    const port = numberOption(input, 'port', { max: 65_535, otherwise: 0 })
    closeDoor = await (await import('../observe/archiver-door.ts')).openArchiverDoor(
      port,
      backupDir,
      bindings.backup.bucket !== undefined,
    )
  }
  const source = backupSource(bindings, server, backupDir)
  const backups = await keepBackups({ ...source, dataDir: bindings.dataDir, tell }).catch((error) => {
    closeDoor?.() // else the process would go on without backups, and look healthy
    throw error
  })
  try {
    const code = await Promise.race([stopped(backups), failed.promise])
    const { lsn, at } = backups.state()
    return result(
      { backupDir, lsn: formatLsn(lsn), at: iso(at) },
      (view) => out.line(`Archived to ${view.lsn}. The server keeps the log from here, up to 2 GB and 3 days.`),
      code,
    )
  } finally {
    closeDoor?.()
    await backups.stop()
  }
}

async function list(input: Input, { dataDir, backup }: ToolBindings, place: Place): Promise<Result> {
  const { out, cwd, values } = input
  const lists = await listBackups(place)
  const bucket = values.from === undefined && backup.bucket ? openBucket(backup.bucket) : undefined
  const view = await Promise.all(
    lists.map(async (one) => ({ ...one, outside: bucket ? await outsideOr(place, bucket, one.system) : null })),
  ).finally(() => bucket?.close())
  const sameDisk = bucket === undefined && (await onSameDisk(dataDir, place.name).catch(() => false))
  return result(view, () => {
    if (view.every(({ bases }) => bases.length === 0)) {
      const where = path.isAbsolute(place.name) ? path.relative(cwd, place.name) || '.' : place.name
      out.line(`No backups in ${where}. Create one: rung backup`)
      if (bucket) out.line('What the bucket has: rung backup list --from s3')
      return
    }
    if (sameDisk) out.note(sameDiskWarning(place.name))
    for (const one of view) {
      for (const line of listLines(one)) out.line(line)
      if (one.outside) out.line(outsideLine(one.outside))
    }
  })
}

async function outsideOr(folder: Place, bucket: Bucket, system: string): Promise<Outside | { error: string }> {
  return outsideOf(folder, bucket, system).catch((error) => ({ error: messageOf(error) }))
}

function outsideLine(outside: Outside | { error: string }): string {
  if ('error' in outside) return `Copies: ${outside.error}`
  const { bucket, bases, until, behindBytes, behindMs } = outside
  const copies = `Copies: ${bases} base backup${bases === 1 ? '' : 's'} in ${bucket}`
  if (until === null) return `${copies}, and no log yet`
  const behind = behindBytes === 0 ? '' : `, ${formatBytes(behindBytes)} and ${formatMs(behindMs)} behind`
  return `${copies}, the log until ${second(Date.parse(until))}${behind}`
}

/** A restore reaches at least the whole second after a base backup. */
const nextSecond = (time: string) => Date.parse(time) + 999

function* listLines({ system, timeline, bases, ranges, faults }: BackupList) {
  yield `Database ${system}, timeline ${timeline ?? '-'}; times are UTC`
  const rows = bases.flatMap(({ id, files, timeline: own, restores }) => {
    const size = formatBytes(files[0]!.bytes)
    if (restores.length === 0) return [[id, size, String(own), 'its log is incomplete', '']]
    return restores.map(({ timeline: line, from, to }) => {
      const until = nextSecond(from) > Date.parse(to) ? 'latest only' : second(Date.parse(to))
      return [id, size, String(line), second(nextSecond(from)), until]
    })
  })
  yield* tableLines([20, -8, -4, 21, 19], [['base backup', 'data', 'line', 'restores from', 'to'], ...rows])
  for (const { file, what } of faults) yield `damaged: ${file} ${what}`
  for (const { from, to } of ranges) {
    if (nextSecond(from) <= Date.parse(to))
      yield `Any time from ${second(nextSecond(from))} to ${second(Date.parse(to))}: rung restore --to`
  }
}

async function verify(input: Input, bindings: ToolBindings, place: Place, backupDir: string): Promise<Result> {
  const { values, out } = input
  if (values.drill) refuseExternal(bindings)
  const { databases, files, faults } = await verifyBackups(place, (done, total) => {
    if (done % 100 === 0) out.note(done === 0 ? `checking ${total} files` : `checked ${done} of ${total} files`)
  })
  if (databases === 0) {
    throw new RungError(
      'BACKUP_NOT_FOUND',
      `There are no backups in ${place.name}. Create one (rung backup), or name the place with --from.`,
    )
  }
  const drilled = values.drill && faults.length === 0 ? await runDrill(input, bindings, place, backupDir) : undefined
  return result(
    { place: place.name, files, faults, ...(drilled && { drill: drilled }) },
    () => {
      for (const { file, what } of faults) out.line(`${file}\n  ${what}`)
      out.line(`${files} files checked, ${faults.length === 0 ? 'all good' : `${faults.length} damaged`}.`)
      if (faults.length > 0) out.line('Take a new base backup (rung backup) once the disk is known to be good.')
      if (drilled) for (const line of drillLines(drilled)) out.line(line)
    },
    faults.length === 0 && (drilled?.equal ?? true) ? 0 : 1,
  )
}

interface DrillResult {
  base: string
  tables: Comparison[]
  /** Whether there was a live database to compare with. */
  compared: boolean
  lastTransactionAt: string | null
  durationMs: number
  equal: boolean
}

async function drillOnly(input: Input, bindings: ToolBindings, place: Place, backupDir: string): Promise<Result> {
  const drilled = await runDrill(input, bindings, place, backupDir)
  return result(
    { place: place.name, ...drilled },
    () => {
      for (const line of drillLines(drilled)) input.out.line(line)
    },
    drilled.equal ? 0 : 1,
  )
}

/** Compares with the live database of the data directory, if there is one. */
async function runDrill(input: Input, bindings: ToolBindings, place: Place, backupDir: string): Promise<DrillResult> {
  const began = systemClock.ticks()
  const onProgress = input.out.note
  const own = await historyOf((await primaryPlace(bindings.dataDir)).dataFolder)
  const { system, timeline } = input.values as { system?: string; timeline?: string }
  const selection = { place, own, system, timeline }
  const drilled = own
    ? await withBackups(input, bindings, async (server) => {
        const source = backupSource(bindings, server, backupDir)
        const archive = await joinArchive(source)
        const archived = place.name === source.outside?.bucket.name ? archive.uploaded : archive.reached
        const live = { connection: server.adminConnection, archived }
        return drill({ ...selection, live, onProgress }).finally(archive.stop)
      })
    : await drill({ ...selection, onProgress })
  const { lastTransactionAt: last, tables } = drilled
  const equal = tables.every((one) => one.equal)
  if (own && equal) await noteDrill(bindings.dataDir)
  return {
    ...drilled,
    compared: own !== undefined,
    lastTransactionAt: last === undefined ? null : iso(last),
    durationMs: Math.round(systemClock.ticks() - began),
    equal,
  }
}

function* drillLines({ base, tables, compared, lastTransactionAt, durationMs, equal }: DrillResult) {
  const rows = tables.map((one) => [
    one.table,
    ...(compared ? [String(one.live?.rows ?? 'none')] : []),
    String(one.restored?.rows ?? 'none'),
    compared ? (one.equal ? 'same' : 'DIFFERS') : '',
  ])
  const head = compared ? ['table', 'live rows', 'restored', ''] : ['table', 'rows', '']
  yield ''
  yield* tableLines(compared ? [44, -11, -11, 7] : [44, -11, 7], [head, ...rows])
  const inWords = `Restored ${base} in ${formatMs(durationMs)}: ${tables.length} tables`
  if (!compared) yield `${inWords}, all read; last transaction ${lastTransactionAt ?? 'before the base backup'}.`
  else if (equal) yield `${inWords}, all the same.`
  else yield `${tables.filter((one) => !one.equal).length} of ${tables.length} tables differ from the restored ones.`
}

/** Reports how much of the data is copied, at most once a second. */
export function copyProgress(out: Input['out']): (done: number, total: number) => void {
  let toldAt = systemClock.ticks()
  return (done, total) => {
    if (systemClock.ticks() - toldAt < 1_000) return
    toldAt = systemClock.ticks()
    out.note(`copying the data: ${Math.floor((done / total) * 100)} % of ${formatBytes(total)}`)
  }
}
