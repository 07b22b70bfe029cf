import { formatAge, formatBytes } from '../kernel/units.ts'
import type { ClimbPlan } from './climb.ts'

/** What a look at an app, its database and its machine found before a climb. Unknown facts are `undefined`. */
export interface PreflightFacts {
  plan: ClimbPlan
  /** In production mode a missing backup or drill refuses a climb up. */
  isProduction: boolean
  /** `undefined`: the sources could not be read. */
  kept: readonly { place: string; what: string }[] | undefined
  sessionStatements: readonly { place: string; what: string }[] | undefined
  /** `max_connections` of a Postgres that runs elsewhere, without those for superusers. */
  externalRoom: number | undefined
  /** `null`: nothing is archived; `undefined`: the database runs elsewhere. Ages in ms. */
  backup: { newestMs: number | undefined; drillMs: number | undefined } | null | undefined
  disk: { freeBytes: number; databaseBytes: number } | undefined
  /** Findings of the doctor to act on, a sentence each. */
  doctor: readonly string[] | undefined
  memory: { freeBytes: number; addedBytes: number } | undefined
  cores: number
}

export const checkNames = [
  'engines',
  'stateless',
  'statements',
  'connections',
  'backup',
  'drill',
  'disk',
  'doctor',
  'memory',
  'cores',
] as const
export type CheckName = (typeof checkNames)[number]

export interface Check {
  name: CheckName
  /** `look`: it does not keep the fleet from climbing. */
  state: 'ok' | 'look' | 'refused' | 'accepted'
  /** What was seen, a sentence. */
  seen: string
  /** What to do, where something is. */
  todo: string | undefined
}

const day = 86_400_000
/** The archiver takes a base backup each day. */
const backupMsMax = 2 * day
const drillMsMax = 90 * day
/** A replica is a copy of the database, and both keep some log. */
const copyFactor = 1.2
const diskBytesMin = 1024 ** 3
/** Of the memory that is free, this must be left. */
const memoryShareMin = 0.2
/** More processes than this for each core only take turns. */
export const processesOfCoreMax = 4
const shownMax = 3

/** Checks what was found. Checks that do not apply to the step are left out. Pure. */
export function checksOf(facts: PreflightFacts, accepted: ReadonlySet<string>): Check[] {
  const { plan, isProduction } = facts
  const isUp = plan.parts.next > plan.parts.now
  // The way back must not be the one that is blocked.
  const serious = isProduction && isUp ? 'refused' : 'look'
  const checks: Check[] = []
  const add = (name: CheckName, state: Check['state'], seen: string, todo?: string) => {
    const isAccepted = state === 'refused' && accepted.has(name) && name !== 'engines'
    checks.push({ name, state: isAccepted ? 'accepted' : state, seen, todo: state === 'ok' ? undefined : todo })
  }

  if (plan.missing.length > 0) {
    const names = plan.missing.map(({ name }) => name).join(' ')
    const problems = plan.missing.map(({ problem }) => problem).join(', and ')
    add('engines', 'refused', `${problems}.`, `rung engines install ${names}`)
  } else if (isUp) add('engines', 'ok', 'All programs that the rung needs are installed.')

  if (plan.processes.next > 1 && isUp) {
    const { kept } = facts
    if (!kept) add('stateless', 'look', 'The sources of the app could not be read.', 'Run rung doctor where they are.')
    else if (kept.length === 0)
      add('stateless', 'ok', 'The app keeps nothing in one process that a second one would miss.')
    else
      add(
        'stateless',
        'refused',
        placesIn(kept),
        'Run rung doctor, which says how to mend each. Try it out: rung test --nodes 2',
      )
  }

  const changesSessions = plan.app.some((text) => text.startsWith('Connections are shared'))
  const readsMove = plan.replicas.next > 0 && plan.replicas.now === 0
  if (changesSessions) {
    const { sessionStatements: found } = facts
    if (!found)
      add('statements', 'look', 'The sources of the app could not be read.', 'Look for SET, LISTEN and advisory locks.')
    else if (found.length > 0)
      add(
        'statements',
        'refused',
        placesIn(found),
        'Use SET LOCAL, pg_advisory_xact_lock, or a signal: behind a pooler each transaction may have another session.',
      )
    else {
      const seen = 'No text of the app is a statement that needs a session of its own.'
      if (readsMove)
        add('statements', 'look', seen, 'Run rung test --lag to see whether reads that need the newest data get it.')
      else add('statements', 'ok', seen)
    }
  }

  const room = plan.connections.room ?? facts.externalRoom
  if (room !== undefined) {
    const seen = `${plan.connections.needed} connections may be needed while both run, and Postgres allows ${room}.`
    if (plan.connections.needed <= room) add('connections', 'ok', seen)
    else {
      const other =
        plan.connections.room === null
          ? 'raise max_connections of Postgres.'
          : `make the step with one stop: rung stop && rung up ${plan.to}`
      const todo = `Lower RUNG_POOL_READ and RUNG_POOL_WRITE and start the fleet again, or ${other}`
      add('connections', 'refused', seen, todo)
    }
  }

  const { backup, disk, memory, doctor } = facts
  if (backup === null) {
    add(
      'backup',
      serious,
      'The database is not backed up.',
      'Set RUNG_BACKUP_DIR, or RUNG_BACKUP_S3_URL: docs/guides/backups.md',
    )
  } else if (backup) {
    const { newestMs, drillMs } = backup
    if (newestMs === undefined) add('backup', serious, 'There is no base backup.', 'rung backup')
    else if (newestMs > backupMsMax)
      add('backup', serious, `The newest base backup is ${formatAge(newestMs)} old.`, 'rung backup')
    else add('backup', 'ok', `The newest base backup is ${formatAge(newestMs)} old.`)
    if (drillMs === undefined)
      add('drill', serious, 'No restore of this database was tried from here.', 'rung backup drill')
    else if (drillMs > drillMsMax)
      add('drill', serious, `The last restore was tried ${formatAge(drillMs)} ago.`, 'rung backup drill')
    else add('drill', 'ok', `A restore was tried ${formatAge(drillMs)} ago, and all tables were the same.`)
  }

  const copies = Math.max(0, plan.replicas.next - plan.replicas.now)
  if (disk && copies > 0) {
    const needed = Math.ceil(copies * disk.databaseBytes * copyFactor) + diskBytesMin
    const seen = `${formatBytes(disk.freeBytes)} are free, and ${copies} ${copies === 1 ? 'copy' : 'copies'} of ${formatBytes(disk.databaseBytes)} are made.`
    if (disk.freeBytes >= needed) add('disk', 'ok', seen)
    else
      add(
        'disk',
        'refused',
        seen,
        `Free ${formatBytes(needed - disk.freeBytes)}, or use fewer replicas (RUNG_REPLICAS).`,
      )
  }

  if (!doctor) add('doctor', 'look', 'The doctor could not examine the database.', 'rung doctor')
  else if (doctor.length === 0) add('doctor', 'ok', 'The doctor finds nothing to act on.')
  else if (isUp) add('doctor', 'refused', listed(doctor), 'rung doctor says what to do. A higher rung does not fix it.')
  else add('doctor', 'look', listed(doctor), 'rung doctor says what to do.')

  if (memory && memory.addedBytes > 0) {
    const seen = `${formatBytes(memory.freeBytes)} of memory are free, and about ${formatBytes(memory.addedBytes)} are added.`
    if (memory.freeBytes - memory.addedBytes >= memoryShareMin * memory.freeBytes) add('memory', 'ok', seen)
    else add('memory', 'refused', seen, 'Use a larger machine, or fewer processes (RUNG_WEB, RUNG_REPLICAS).')
  }

  if (isUp) {
    const { cores } = facts
    const seen = `${plan.processes.next} processes of the app on ${cores} ${cores === 1 ? 'core' : 'cores'}.`
    if (plan.processes.next > processesOfCoreMax * cores)
      add('cores', 'refused', seen, 'More than four for each core take memory, and answer no more requests.')
    else if (plan.parts.next - plan.parts.now > cores)
      add(
        'cores',
        'look',
        seen,
        'A request costs more CPU at a higher rung: docs/guides/climb.md, "When not to climb".',
      )
    else add('cores', 'ok', seen)
  }
  return checks
}

function listed(texts: readonly string[]): string {
  const more = texts.length > shownMax ? ` And ${texts.length - shownMax} more.` : ''
  return texts.slice(0, shownMax).join(' ') + more
}

function placesIn(found: readonly { place: string; what: string }[]): string {
  return listed(found.map(({ place, what }) => `${place}: ${what.replace(/\.?$/, '.')}`))
}
