import { existsSync } from 'node:fs'
import path from 'node:path'
import { type Catalogue, type Fault, readCatalogue, readCatalogues } from '../backup/catalogue.ts'
import { type Comparison, drill } from '../backup/drill.ts'
import { backUp, joinArchive, keepBackups, systemOf, type Tell, usable } from '../backup/keep.ts'
import { currentTimeline, ranges, type Window, windows } from '../backup/policy.ts'
import { onSameDisk, sameDiskWarning } from '../backup/same-disk.ts'
import { verify } from '../backup/verify.ts'
import { runningFleet } from '../fleet/state.ts'
import { every, systemClock } from '../kernel/clock.ts'
import { isRungError, RungError } from '../kernel/errors.ts'
import { formatLsn } from '../kernel/position.ts'
import { formatBytes, formatMs } from '../kernel/units.ts'
import { backupDirOf, backupSource, refuseExternal } from '../runtime/backups.ts'
import { createLog } from '../runtime/log.ts'
import { type DatabaseServer, startDatabaseServer } from '../runtime/wire.ts'
import type { ToolBindings } from '../topology/bindings.ts'
import type { Command, Input } from './command.ts'
import { toolBindings } from './input-settings.ts'
import { stopOnSignal } from './stop-on-signal.ts'

const statusEveryMs = 5_000

const backup: Command = {
  name: 'backup',
  summary: 'back the database up, list and check backups',
  usage: 'rung backup [list|verify] [options]',
  help: [
    'Takes a base backup now, beside the running app or without it, with the log that',
    'it needs. "rung start" and "rung up" with RUNG_BACKUP_DIR set do more by',
    'themselves: they archive the log all the time, so that at most a second can be',
    'lost, and take a base backup each day; the last RUNG_BACKUP_KEEP (7) are kept.',
    '"rung backup --stream" does the same in a process of its own.',
    '',
    'list    what there is, and which times can be restored',
    'verify  reads every file and compares it with its SHA-256, finds gaps in the log;',
    '        with --drill it also restores beside the live database and compares each',
    '        table; for that, writers wait a few milliseconds',
    '',
    'A backup holds all data and the root of the keys (.rung/secret): guard it as you',
    'guard the database, and put it on another disk.',
    '',
    'Exit code: 0 good, 1 an error, a damaged file or a difference.',
  ].join('\n'),
  examples: ['rung backup --to /mnt/backups', 'RUNG_BACKUP_DIR=/mnt/backups rung backup verify --drill'],
  settings: ['backup', 'process.dataDir', 'process.config'],
  options: {
    to: { type: 'string', value: 'dir', help: 'Instead of RUNG_BACKUP_DIR; default: backups in RUNG_DATA.' },
    stream: { type: 'boolean', help: 'Archive the log until Ctrl-C.' },
    port: { type: 'string', value: 'number', help: 'With --stream: /healthz and /metrics there, for this machine.' },
    drill: { type: 'boolean', help: 'With verify: restore to a temporary folder and compare.' },
  },
  async run(input) {
    const { positionals, values, cwd } = input
    const verb = verbOf(positionals, values)
    const bindings = await toolBindings(input)
    const backupDir = typeof values.to === 'string' ? path.resolve(cwd, values.to) : backupDirOf(bindings)
    if (verb === 'list') return list(input, bindings, backupDir)
    if (verb === 'verify') return check(input, bindings, backupDir)
    return withServer(bindings, async (server) => {
      const folder = await usable(backupDir)
      return verb === 'stream' ? stream(input, bindings, server, folder) : once(input, bindings, server, folder)
    })
  },
}
export default backup

function portOf(text: string): number {
  const port = Number(text)
  if (/^\d+$/.test(text) && port >= 1 && port <= 65_535) return port
  throw new RungError('CONFIG_INVALID', `--port is "${text}"; it must be a whole number from 1 to 65535.`)
}

/** Which of the four commands is meant. An option that it would ignore is an error. */
function verbOf(positionals: Input['positionals'], values: Input['values']): 'once' | 'stream' | 'list' | 'verify' {
  const options = ['stream', 'port', 'drill'].filter((name) => values[name] !== undefined)
  const said = [...positionals, ...options.map((name) => `--${name}`)].join(' ')
  if (said === '') return 'once'
  if (said === '--stream' || said === '--stream --port') return 'stream'
  if (said === 'list') return 'list'
  if (said === 'verify' || said === 'verify --drill') return 'verify'
  throw new RungError('CONFIG_INVALID', `rung backup knows no "${said}". See: rung backup --help`)
}

async function withServer(bindings: ToolBindings, body: (server: DatabaseServer) => Promise<number>): Promise<number> {
  refuseExternal(bindings)
  if (!existsSync(path.join(bindings.dataDir, 'postgres'))) {
    throw new RungError(
      'CONFIG_INVALID',
      `There is no database in ${bindings.dataDir}. Start the app first, or set RUNG_DATA.`,
    )
  }
  // A fleet restarts its Postgres itself; a second start beside it would keep it from that.
  const how = (await runningFleet(bindings.dataDir)) ? 'join' : 'attach'
  const server = await startDatabaseServer(bindings, createLog('backup', 'silent'), how)
  return body(server).finally(() => server.stop())
}

async function once(
  { json, out }: Input,
  bindings: ToolBindings,
  server: DatabaseServer,
  backupDir: string,
): Promise<number> {
  const sameDisk = await onSameDisk(bindings.dataDir, backupDir)
  if (sameDisk) out.note(sameDiskWarning(backupDir))
  const began = systemClock.ticks()
  const source = backupSource(bindings, server, backupDir)
  const archive = await joinArchive(source.connection, backupDir)
  try {
    const onProgress = percent(out, 'copying the data')
    const base = await backUp(source, { archived: archive.reached, onProgress })
    const durationMs = Math.round(systemClock.ticks() - began)
    const secretKept = base.files.some(({ name }) => name === 'secret')
    const { bytes } = base.files[0]!
    if (json) out.json({ ...base, backupDir, sameDisk, secretKept, durationMs })
    else {
      out.line(`Base backup ${base.id} in ${formatMs(durationMs)}`)
      out.line(`  data     ${formatBytes(bytes)}, position ${base.stopLsn}, timeline ${base.timeline}`)
      out.line(`  in       ${backupDir}`)
      out.line(
        `  keys     ${secretKept ? 'their root (.rung/secret) is in it' : 'not in it: keep RUNG_SECRET somewhere else'}`,
      )
    }
    return 0
  } finally {
    await archive.stop()
  }
}

async function stream(
  input: Input,
  bindings: ToolBindings,
  server: DatabaseServer,
  backupDir: string,
): Promise<number> {
  const { out, json, values } = input
  const stopped = stopOnSignal(input)
  const port = typeof values.port === 'string' ? portOf(values.port) : undefined
  const failed = Promise.withResolvers<never>()
  const tell: Tell = (level, _event, message, facts) => {
    if (isRungError(facts?.err, 'BACKUP_RUNNING')) failed.reject(facts.err)
    else if (level !== 'debug') out.note(closeDoor ? `${iso(systemClock.now())} ${message}` : message)
  }
  const closeDoor =
    port === undefined
      ? undefined
      : await (await import('../observe/archiver-door.ts')).openArchiverDoor(port, backupDir)
  const backups = await keepBackups({ ...backupSource(bindings, server, backupDir), dataDir: bindings.dataDir, tell })
  const endStatus = every(statusEveryMs, () => {
    if (closeDoor) return // it can be asked there
    const { at, lsn, serverLsn } = backups.state()
    if (at === 0) return
    const behind = Number(serverLsn > lsn ? serverLsn - lsn : 0n)
    out.note(`${formatLsn(lsn)}  ${formatBytes(behind)} and ${formatMs(systemClock.now() - at)} behind`)
  })
  try {
    const code = await Promise.race([stopped(backups), failed.promise])
    const { lsn, at } = backups.state()
    if (json) out.json({ backupDir, lsn: formatLsn(lsn), at: new Date(at).toISOString() })
    else
      out.line(`Archived to ${formatLsn(lsn)}; the server keeps what follows for the next one, up to 2 GB and 3 days.`)
    return code
  } finally {
    endStatus()
    closeDoor?.()
    await backups.stop()
  }
}

async function list({ json, out, cwd }: Input, bindings: ToolBindings, backupDir: string): Promise<number> {
  const catalogues = await readCatalogues(backupDir)
  const all = catalogues.map((catalogue) => {
    const current = currentTimeline(catalogue)
    return { catalogue, current, found: catalogue.timelines.flatMap((timeline) => windows(catalogue, timeline)) }
  })
  if (json) {
    out.json(
      all.map(({ catalogue, current, found }) => ({
        system: catalogue.system,
        timeline: current?.id ?? null,
        bases: catalogue.bases.map((base) => ({
          ...base,
          restores: found
            .filter((window) => window.base === base)
            .map(({ timeline, from, to }) => ({ timeline, from: iso(from), to: iso(to) })),
        })),
        faults: catalogue.faults,
      })),
    )
    return 0
  }
  const place = path.relative(cwd, backupDir) || '.'
  if (all.every(({ catalogue }) => catalogue.bases.length === 0)) {
    out.line(`No backups in ${place}. Make one: rung backup`)
    return 0
  }
  if (existsSync(bindings.dataDir) && (await onSameDisk(bindings.dataDir, backupDir)))
    out.note(sameDiskWarning(backupDir))
  for (const { catalogue, current, found } of all) listOne(out, catalogue, current?.id, found)
  return 0
}

function listOne(out: Input['out'], catalogue: Catalogue, current: number | undefined, found: readonly Window[]): void {
  out.line(`Database ${catalogue.system}, timeline ${current ?? '-'}; times are UTC`)
  out.line(`${'base backup'.padEnd(20)}  ${'data'.padStart(8)}  line  ${'restores from'.padEnd(19)}  to`)
  for (const base of catalogue.bases) {
    const size = formatBytes(base.files[0]!.bytes).padStart(8)
    const its = found.filter((window) => window.base === base)
    if (its.length === 0) out.line(`${base.id}  ${size}  ${String(base.timeline).padStart(4)}  its log is not complete`)
    for (const { timeline, from, to } of its) {
      const until = from + 999 > to ? 'latest only' : second(to)
      out.line(`${base.id}  ${size}  ${String(timeline).padStart(4)}  ${second(from + 999)}  ${until}`)
    }
  }
  for (const { file, what } of catalogue.faults) out.line(`damaged: ${file} ${what}`)
  for (const { from, to } of ranges(found.filter(({ timeline }) => timeline === current))) {
    if (from + 999 <= to) out.line(`Any time from ${second(from + 999)} to ${second(to)}: rung restore --to`)
  }
}

async function check(input: Input, bindings: ToolBindings, backupDir: string): Promise<number> {
  const { values, json, out } = input
  if (values.drill) refuseExternal(bindings)
  const catalogues = await readCatalogues(backupDir)
  if (catalogues.length === 0) {
    throw new RungError(
      'BACKUP_NOT_FOUND',
      `There are no backups in ${backupDir}. Make one: rung backup, or name the place with --to.`,
    )
  }
  const faults: Fault[] = []
  let files = 0
  for (const catalogue of catalogues) {
    const found = await verify(catalogue, (done, total) => {
      if (done === 0) files += total
      if (done % 100 === 0) out.note(done === 0 ? `checking ${total} files` : `checked ${done} of ${total} files`)
    })
    faults.push(...found.map(({ file, what }) => ({ file: path.join(catalogue.system, file), what })))
  }
  const compared = values.drill && faults.length === 0 ? await runDrill(input, bindings, backupDir) : undefined
  const equal = compared?.tables.every((table) => table.equal) ?? true
  if (json) out.json({ backupDir, files, faults, ...(compared && { drill: { ...compared, equal } }) })
  else {
    for (const { file, what } of faults) out.line(`${file}\n  ${what}`)
    out.line(
      faults.length === 0 ? `${files} files checked, all good.` : `${files} files checked, ${faults.length} damaged.`,
    )
    if (faults.length > 0) out.line('Take a new base backup (rung backup) once the disk is known to be good.')
    if (compared) printDrill(out, compared)
  }
  return faults.length === 0 && equal ? 0 : 1
}

interface DrillResult {
  base: string
  tables: Comparison[]
  durationMs: number
}

async function runDrill({ out }: Input, bindings: ToolBindings, backupDir: string): Promise<DrillResult> {
  let result: DrillResult | undefined
  const began = systemClock.ticks()
  await withServer(bindings, async (server) => {
    const { connection } = backupSource(bindings, server, backupDir)
    const system = await systemOf(connection)
    const archive = await joinArchive(connection, backupDir)
    try {
      const found = await drill({
        connection: server.adminConnection,
        archived: archive.reached,
        readCatalogue: () => readCatalogue(backupDir, system),
        onProgress: out.note,
      })
      result = { ...found, durationMs: Math.round(systemClock.ticks() - began) }
      return 0
    } finally {
      await archive.stop()
    }
  })
  return result!
}

function printDrill(out: Input['out'], { base, tables, durationMs }: DrillResult): void {
  out.line()
  out.line(`${'table'.padEnd(44)}  ${'live rows'.padStart(11)}  ${'restored'.padStart(11)}`)
  for (const { table, live, restored, equal } of tables) {
    const name = table.length > 44 ? `${table.slice(0, 43)}…` : table.padEnd(44)
    const count = (digest: Comparison['live']) => String(digest?.rows ?? 'none').padStart(11)
    out.line(`${name}  ${count(live)}  ${count(restored)}  ${equal ? 'same' : 'DIFFERS'}`)
  }
  const different = tables.filter(({ equal }) => !equal).length
  out.line(
    different === 0
      ? `Restored ${base} in ${formatMs(durationMs)}: ${tables.length} tables, all the same.`
      : `${different} of ${tables.length} tables differ from the restored ones.`,
  )
}

/** Reports progress, at most a line each second. */
export function percent(out: Input['out'], what: string): (done: number, total: number) => void {
  let toldAt = systemClock.ticks()
  return (done, total) => {
    if (systemClock.ticks() - toldAt < 1_000) return
    toldAt = systemClock.ticks()
    out.note(`${what}: ${Math.floor((done / total) * 100)} % of ${formatBytes(total)}`)
  }
}

export function iso(time: number): string {
  return new Date(time).toISOString()
}

/** Cut to whole seconds. */
export function second(time: number): string {
  return iso(time).slice(0, 19).replace('T', ' ')
}
