import { statfs } from 'node:fs/promises'
import { availableParallelism, freemem } from 'node:os'
import path from 'node:path'
import { folderPlace } from '../backup/folder.ts'
import { listBackups } from '../backup/report.ts'
import { examine } from '../doctor/examine.ts'
import type { Client } from '../engines/postgres/client.ts'
import { connectOnce } from '../engines/postgres/client.ts'
import { cpuTimes, familyOf } from '../engines/process/cpu.ts'
import { memoryOf } from '../engines/process/memory.ts'
import type { ClimbPlan } from '../fleet/climb.ts'
import type { PreflightFacts } from '../fleet/preflight.ts'
import type { RunningFleet } from '../fleet/state.ts'
import { isApp } from '../fleet/status.ts'
import { systemClock } from '../kernel/clock.ts'
import { readSightings } from '../observe/sighting-table.ts'
import { openPrimary } from '../runtime/wire.ts'
import { lookAtSources, lookForSessions } from '../stateless/look.ts'
import { backupDirOf, dataDirOf, toolBindingsOf } from '../topology/bindings.ts'
import type { Input } from './command.ts'
import { withServer } from './database.ts'
import { settingsOf } from './input-settings.ts'
import { lastDrill } from './proved.ts'

/** Looks at everything that the checks before a climb need. What cannot be looked at is left out, and the checks say so. */
export async function climbFacts(plan: ClimbPlan, fleet: RunningFleet, input: Input): Promise<PreflightFacts> {
  const { cwd } = input
  const settings = await settingsOf(input, { app: fleet.app, rung: plan.from })
  const dataDir = dataDirOf(settings, cwd)
  const bindings = toolBindingsOf(settings, cwd)
  const at = (file: string, line: number) => `${path.relative(cwd, file)}:${line}`
  const sources = () => keptPlaces(fleet.app, cwd)
  const statements = async () =>
    (await lookForSessions(fleet.app)).map(({ file, line, what }) => ({
      place: at(file, line),
      what: `it uses ${what}`,
    }))
  const database = withServer(bindings, cwd, async ({ adminConnection, connection }) => {
    const own = openPrimary(bindings.data, connection)
    const seen = await readSightings(own)
      .catch(() => []) // a help, never a condition
      .finally(() => own.close())
    const { findings, facts } = await examine(adminConnection, { seen, onProgress() {} })
    const acts = findings.filter(({ severity }) => severity === 'act').map(({ what }) => what)
    return { acts, sizeBytes: facts.server.sizeBytes, room: await roomIn(adminConnection) }
  })
  const [kept, sessions, examined, backup, disk, memory] = await Promise.all([
    sources().catch(() => undefined),
    statements().catch(() => undefined),
    database.catch(() => undefined),
    bindings.data.engine === 'external' ? undefined : backupFacts(backupDirOf(settings, cwd), dataDir),
    statfs(dataDir).catch(() => undefined),
    memoryFacts(plan, fleet),
  ])
  return {
    plan,
    isProduction: fleet.mode === 'production',
    kept,
    sessionStatements: sessions,
    externalRoom: bindings.data.engine === 'external' ? examined?.room : undefined,
    backup,
    disk: disk && examined ? { freeBytes: disk.bavail * disk.bsize, databaseBytes: examined.sizeBytes } : undefined,
    doctor: examined?.acts,
    memory,
    cores: availableParallelism(),
  }
}

/** Places in the sources where one process keeps what a second one would miss. */
export async function keptPlaces(app: string, cwd: string): Promise<{ place: string; what: string }[]> {
  return (await lookAtSources(app))
    .filter(({ severity }) => severity !== 'note')
    .map(({ file, line, what }) => ({ place: `${path.relative(cwd, file)}:${line}`, what }))
}

async function roomIn(connection: Parameters<typeof connectOnce>[0]): Promise<number> {
  const client: Client = await connectOnce(connection)
  const { rows } = await client
    .query(
      `select current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int as room`,
    )
    .finally(() => client.end())
  return (rows[0] as { room: number }).room
}

/** @returns `null` where nothing is archived */
export async function backupFacts(dir: string | undefined, dataDir: string): Promise<PreflightFacts['backup']> {
  if (dir === undefined) return null
  const lists = await listBackups(folderPlace(dir)).catch(() => [])
  const newest = Math.max(0, ...lists.flatMap(({ bases }) => bases.map(({ finishedAt }) => finishedAt)))
  const drilled = await lastDrill(dataDir)
  const age = (at: number | undefined) => (at ? systemClock.now() - at : undefined)
  return { newestMs: age(newest), drillMs: age(drilled) }
}

const mebibyte = 1024 ** 2
/** Idle, as `rung up 100k` has them on Linux; a process of the app and a server of the database are measured here. */
const idleBytes: Readonly<Record<string, number>> = {
  edge: 25 * mebibyte,
  balancer: 25 * mebibyte,
  redis: 10 * mebibyte,
  nats: 15 * mebibyte,
  pooler: 5 * mebibyte,
}

/** What the added parts take: as much as a running one of their kind. */
async function memoryFacts(plan: ClimbPlan, { parts }: RunningFleet): Promise<PreflightFacts['memory']> {
  const times = cpuTimes()
  const measured = new Map<string, number>()
  for (const { name, pid } of parts) {
    const bytes = pid === undefined ? undefined : await memoryOf(familyOf(pid, times))
    if (bytes !== undefined) measured.set(kindOf(name), Math.max(measured.get(kindOf(name)) ?? 0, bytes))
  }
  if (measured.size === 0) return undefined
  const sum = (names: readonly string[]) =>
    names.reduce((all, name) => all + (measured.get(kindOf(name)) ?? idleBytes[name] ?? 0), 0)
  return { freeBytes: freemem(), addedBytes: Math.max(0, sum(plan.added) - sum(plan.removed)) }
}

const kindOf = (name: string) => (isApp(name) ? 'app' : name.replace(/-\d+$/, ''))
