import path from 'node:path'
import { readCatalogue } from '../backup/catalogue.ts'
import { type Comparison, drill } from '../backup/drill.ts'
import { backUp, joinArchive, keepBackups, systemOf, type Tell, usable } from '../backup/keep.ts'
import { type BackupList, listBackups, verifyBackups } from '../backup/report.ts'
import { onSameDisk, sameDiskWarning } from '../backup/same-disk.ts'
import { runningFleet } from '../fleet/state.ts'
import { systemClock } from '../kernel/clock.ts'
import { isRungError, RungError } from '../kernel/errors.ts'
import { formatLsn } from '../kernel/position.ts'
import { formatBytes, formatMs } from '../kernel/units.ts'
import { backupDirOf, backupSource, refuseExternal } from '../runtime/backups.ts'
import type { DatabaseServer } from '../runtime/wire.ts'
import type { ToolBindings } from '../topology/bindings.ts'
import { type Command, type Input, numberOption, type Result, result, settingOptions } from './command.ts'
import { withServer } from './database.ts'
import { toolBindings } from './input-settings.ts'
import { stopOnSignal } from './stop-on-signal.ts'
import { iso, second, tableLines } from './table.ts'

const backup: Command = {
  name: 'backup',
  summary: 'back up the database, list and check backups',
  usage: 'rung backup [list|verify] [options]',
  help: [
    'Takes a base backup now, whether the app runs or not, with the log that it needs.',
    '"rung start" and "rung up" with RUNG_BACKUP_DIR set do more by themselves: they',
    'archive the log continuously, so that at most a second can be lost, and take a base',
    'backup each day; the last RUNG_BACKUP_KEEP (7) are kept. "rung backup --stream" does',
    'the same in a process of its own.',
    '',
    'list    lists the backups, and which times can be restored',
    'verify  reads every file, compares it with its SHA-256, and looks for gaps in',
    '        the log; with --drill it also restores beside the live database and',
    '        compares each table; for that, writers wait a few milliseconds',
    '',
    'A backup holds all data and the root of the keys (.rung/secret): protect it like',
    'the database, and put it on another disk.',
    '',
    'Exit code: 0 good; 1 an error, a damaged file or a difference.',
  ].join('\n'),
  examples: ['rung backup --to /mnt/backups', 'RUNG_BACKUP_DIR=/mnt/backups rung backup verify --drill'],
  settings: ['backup', 'process.dataDir', 'process.config'],
  options: {
    ...settingOptions('process.dataDir'),
    to: { type: 'string', value: 'dir', help: 'Instead of RUNG_BACKUP_DIR; default: backups in RUNG_DATA.' },
    stream: { type: 'boolean', help: 'Archive the log until Ctrl-C.' },
    port: {
      type: 'string',
      value: 'number',
      help: 'With --stream: serve /healthz and /metrics here, on this machine.',
    },
    drill: { type: 'boolean', help: 'With verify: restore to a temporary folder and compare.' },
  },
  async run(input) {
    const { values, cwd } = input
    const verb = verbOf(input)
    const bindings = await toolBindings(input)
    const backupDir = typeof values.to === 'string' ? path.resolve(cwd, values.to) : backupDirOf(bindings)
    if (verb === 'list') return list(input, bindings, backupDir)
    if (verb === 'verify') return verify(input, bindings, backupDir)
    return withBackups(input, bindings, async (server) => {
      const folder = await usable(backupDir)
      return verb === 'stream' ? stream(input, bindings, server, folder) : once(input, bindings, server, folder)
    })
  },
}
export default backup

/** @throws COMMAND_INVALID for an option that the command would ignore */
function verbOf({ positionals, values }: Input): 'once' | 'stream' | 'list' | 'verify' {
  const options = ['stream', 'port', 'drill'].filter((name) => values[name] !== undefined)
  const given = [...positionals, ...options.map((name) => `--${name}`)].join(' ')
  if (given === '') return 'once'
  if (given === '--stream' || given === '--stream --port') return 'stream'
  if (given === 'list') return 'list'
  if (given === 'verify' || given === 'verify --drill') return 'verify'
  throw new RungError('COMMAND_INVALID', `rung backup does not take "${given}". See: rung backup --help`)
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
  const sameDisk = await onSameDisk(bindings.dataDir, backupDir)
  if (sameDisk) out.note(sameDiskWarning(backupDir))
  const began = systemClock.ticks()
  const source = backupSource(bindings, server, backupDir)
  const archive = await joinArchive(source.primary, backupDir)
  const base = await backUp(source, { archived: archive.reached, onProgress: copyProgress(out) }).finally(archive.stop)
  const durationMs = Math.round(systemClock.ticks() - began)
  const secretKept = base.files.some(({ name }) => name === 'secret')
  return result({ ...base, backupDir, sameDisk, secretKept, durationMs }, () => {
    out.line(`Base backup ${base.id} in ${formatMs(durationMs)}`)
    out.line(`  data     ${formatBytes(base.files[0]!.bytes)}, position ${base.stopLsn}, timeline ${base.timeline}`)
    out.line(`  in       ${backupDir}`)
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
    closeDoor = await (await import('../observe/archiver-door.ts')).openArchiverDoor(port, backupDir)
  }
  const backups = await keepBackups({ ...backupSource(bindings, server, backupDir), dataDir: bindings.dataDir, tell })
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

async function list({ out, cwd }: Input, { dataDir }: ToolBindings, backupDir: string): Promise<Result> {
  const lists = await listBackups(backupDir)
  const sameDisk = await onSameDisk(dataDir, backupDir).catch(() => false)
  return result(lists, () => {
    if (lists.every(({ bases }) => bases.length === 0)) {
      return out.line(`No backups in ${path.relative(cwd, backupDir) || '.'}. Create one: rung backup`)
    }
    if (sameDisk) out.note(sameDiskWarning(backupDir))
    for (const one of lists) for (const line of listLines(one)) out.line(line)
  })
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

async function verify(input: Input, bindings: ToolBindings, backupDir: string): Promise<Result> {
  const { values, out } = input
  if (values.drill) refuseExternal(bindings)
  const { databases, files, faults } = await verifyBackups(backupDir, (done, total) => {
    if (done % 100 === 0) out.note(done === 0 ? `checking ${total} files` : `checked ${done} of ${total} files`)
  })
  if (databases === 0) {
    throw new RungError(
      'BACKUP_NOT_FOUND',
      `There are no backups in ${backupDir}. Create one (rung backup), or name the directory with --to.`,
    )
  }
  const drilled = values.drill && faults.length === 0 ? await runDrill(input, bindings, backupDir) : undefined
  return result(
    { backupDir, files, faults, ...(drilled && { drill: drilled }) },
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
  durationMs: number
  equal: boolean
}

function runDrill(input: Input, bindings: ToolBindings, backupDir: string): Promise<DrillResult> {
  const began = systemClock.ticks()
  return withBackups(input, bindings, async (server) => {
    const { primary } = backupSource(bindings, server, backupDir)
    const system = await systemOf(await primary())
    const archive = await joinArchive(primary, backupDir)
    const { base, tables } = await drill({
      connection: server.adminConnection,
      archived: archive.reached,
      readCatalogue: () => readCatalogue(backupDir, system),
      onProgress: input.out.note,
    }).finally(archive.stop)
    const durationMs = Math.round(systemClock.ticks() - began)
    return { base, tables, durationMs, equal: tables.every(({ equal }) => equal) }
  })
}

function* drillLines({ base, tables, durationMs, equal }: DrillResult) {
  const rows = tables.map((one) => [
    one.table,
    String(one.live?.rows ?? 'none'),
    String(one.restored?.rows ?? 'none'),
    one.equal ? 'same' : 'DIFFERS',
  ])
  yield ''
  yield* tableLines([44, -11, -11, 7], [['table', 'live rows', 'restored', ''], ...rows])
  yield equal
    ? `Restored ${base} in ${formatMs(durationMs)}: ${tables.length} tables, all the same.`
    : `${tables.filter((one) => !one.equal).length} of ${tables.length} tables differ from the restored ones.`
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
