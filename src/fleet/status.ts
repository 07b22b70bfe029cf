import { systemClock } from '../kernel/clock.ts'
import { engines } from './engines.ts'
import { startedOn } from './started.ts'
import { type RunningFleet, runningFleet } from './state.ts'

/** What runs on a data directory. */
export type FleetStatus =
  | { running: false }
  | ({ running: true; parts: PartStatus[] } & Partial<Omit<RunningFleet, 'parts'>>)

export interface PartStatus {
  name: string
  state: string
  pid: number | undefined
  restarts: number
  /** When this state began, ms since the epoch. */
  since: number
  address: string
  zone?: string | undefined
  /** The id of the code that a process of the app runs. */
  build?: string | undefined
  /** Why it is not running, or which engine it cannot use. */
  trouble?: string | undefined
  /** Why it was restarted the last time. */
  reason?: string | undefined
}

/** Returns the parts of the fleet or of the processes that run on this data directory. */
export async function fleetStatus(dataDir: string): Promise<FleetStatus> {
  const fleet = await runningFleet(dataDir)
  const parts = await Promise.all((fleet?.parts ?? (await partsWithoutFleet(dataDir))).map(withTrouble))
  return fleet || parts.length > 0 ? { running: true, ...fleet, parts } : { running: false }
}

/** Returns the processes of the app that run on this data directory, without asking them. */
export async function appParts(dataDir: string): Promise<PartStatus[]> {
  const fleet = await runningFleet(dataDir)
  return fleet ? fleet.parts.filter(({ name }) => isApp(name)) : appsWithoutFleet(dataDir)
}

async function appsWithoutFleet(dataDir: string): Promise<PartStatus[]> {
  return (await startedOn(dataDir)).map(({ process: { pid }, role, state, since, url }) => {
    return { name: role === 'both' ? 'app' : role, state, pid, restarts: 0, since, address: url.replace('http://', '') }
  })
}

async function partsWithoutFleet(dataDir: string): Promise<PartStatus[]> {
  const apps = await appsWithoutFleet(dataDir)
  const since = apps[0]?.since ?? systemClock.now()
  const servers = await Promise.all(
    engines.map(async ({ part: name, findLeftover }): Promise<PartStatus[]> => {
      const found = await findLeftover?.(dataDir)
      if (!found) return []
      const { pid, address, owned } = found
      const server = { name, state: 'running', pid, restarts: 0, since, address }
      if (apps.length > 0 || owned) return [server]
      const trouble = 'the process that started it was killed; "rung start" takes it over, "rung stop" ends it'
      return [{ ...server, state: 'left', trouble }]
    }),
  )
  return [...apps, ...servers.flat()]
}

async function withTrouble(part: PartStatus): Promise<PartStatus> {
  if (part.state !== 'running' || !isApp(part.name)) return part
  const trouble = await unusableEngine(part.address)
  return trouble === undefined ? part : { ...part, trouble }
}

/** Whether a part of this name is a process of the app. */
export function isApp(name: string): boolean {
  return /(^|-)(app|web|worker|both)(-\d+)?$/.test(name)
}

/** `/readyz` itself waits 1 s for the database. */
const readyWithinMs = 2_000

/** Returns a sentence about an engine that a process of the app cannot use; it may run and answer without it. */
export async function unusableEngine(address: string): Promise<string | undefined> {
  const answer = await fetch(`http://${address}/readyz`, { signal: AbortSignal.timeout(readyWithinMs) })
    .then((response) => response.json() as Promise<{ checks: Record<string, boolean | undefined> }>)
    .catch(() => undefined)
  const unusable = engines.toReversed().find(({ check }) => check !== undefined && answer?.checks[check] === false)
  return unusable && `cannot use ${unusable.product}; its log says why`
}
