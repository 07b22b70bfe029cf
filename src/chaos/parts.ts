import { readPrimacy } from '../engines/postgres/members.ts'
import { identify, type Known, lives } from '../engines/process/pid-file.ts'
import { type RunningFleet, runningFleet } from '../fleet/state.ts'
import { fleetStatus } from '../fleet/status.ts'
import { sleep, systemClock } from '../kernel/clock.ts'
import { RungError } from '../kernel/errors.ts'
import { type FleetPart, type Front, type Kind, kinds, noEffect, refused } from './fault.ts'

/**
 * Returns the fleet that runs on a data directory.
 * @throws FLEET_NOT_RUNNING, CHAOS_REFUSED if it runs in production
 */
export async function fleetToStrike(dataDir: string): Promise<RunningFleet> {
  const fleet = await runningFleet(dataDir)
  if (!fleet || fleet.parts.length === 0) {
    throw new RungError(
      'FLEET_NOT_RUNNING',
      'No "rung up" runs on this data directory, or it is still starting. See: rung ps',
    )
  }
  if (fleet.mode !== 'development' && fleet.mode !== 'test') {
    throw refused(
      'This fleet runs in production mode, which is the default of rung up. Start one to break: NODE_ENV=development rung up …',
    )
  }
  return fleet
}

export async function fleetParts(dataDir: string): Promise<FleetPart[]> {
  const [fleet, { primary }] = await Promise.all([runningFleet(dataDir), readPrimacy(dataDir)])
  const all = fleet?.parts ?? []
  const fronts = (['balancer', 'edge'] as const).filter((front) => all.some(({ name }) => name === front))
  return all.flatMap(({ name, pid, zone, address, log }) => {
    const kind = kindOf(name, primary, fronts.includes('balancer'))
    if (kind === undefined) return []
    const front = frontOf(kind, fronts)
    return [{ name, kind, ...(front && { front }), pid, zone, address, log }]
  })
}

function kindOf(name: string, primary: string, hasBalancer: boolean): Kind | undefined {
  if (/^postgres(-\d+)?$/.test(name)) return name === primary ? 'primary' : 'replica'
  if (roleOf(name) === 'web') return hasBalancer ? 'web' : 'app'
  if (roleOf(name) === 'worker') return 'worker'
  return kinds.find((kind) => name === kind || name.replace(/-\d+$/, '') === kind)
}

/** `web-1`, or `media-web-1` of the group `media`. */
const ofApp = /^(?:(.+)-)?(web|worker)-\d+$/
const roleOf = (name: string) => ofApp.exec(name)?.[2]
/** Returns the group of modules that a process of the app has. */
export const groupOf = (name: string) => ofApp.exec(name)?.[1]

/** @param fronts those that the fleet has, from the inside */
function frontOf(kind: Kind, fronts: readonly Front[]): Front | undefined {
  if (kind === 'web' || kind === 'app') return fronts[0]
  return kind === 'balancer' ? fronts.find((front) => front === 'edge') : undefined
}

/**
 * Finds parts by a name of `rung ps`, by `primary` or `replica` for a server of the database, or by `zone b`.
 * @throws COMMAND_INVALID
 */
export function partsCalled(all: readonly FleetPart[], [first, second]: readonly string[]): FleetPart[] {
  if (first === 'zone') {
    const found = all.filter(({ zone }) => second !== undefined && zone === second)
    if (found.length > 0) return found
    throw new RungError('COMMAND_INVALID', `There is no zone "${second ?? ''}" with a part in it. See: rung ps`)
  }
  const found = all.find(({ name }) => name === first) ?? all.find(({ kind }) => kind === first && isRole(kind))
  if (found) return [found]
  throw new RungError(
    'COMMAND_INVALID',
    `There is no part "${first}"${all.some(({ kind }) => kind === first) ? ', which is a kind of parts: name one of them' : ''}. There are ${all.map(({ name }) => name).join(', ')}.`,
  )
}

const isRole = (kind: Kind) => kind === 'primary' || kind === 'replica'

/** Returns the process of a part. @throws CHAOS_NO_EFFECT if it does not run: a fault on a dead process would show nothing */
export function processOf({ name, pid }: FleetPart): Known {
  const known = pid === undefined ? undefined : identify(pid)
  if (known !== undefined && known.born !== '' && lives(known)) return known
  throw noEffect(`${name} does not run at this moment, so nothing was done to it. See: rung ps`)
}

const lookEveryMs = 50

/**
 * Waits until all parts of a fleet run, and all processes of the app can use their engines.
 * @returns after how many ms; `undefined` if that is not so in time
 */
export async function untilWhole(dataDir: string, withinMs: number, over?: AbortSignal): Promise<number | undefined> {
  const began = systemClock.ticks()
  for (;;) {
    const waitedMs = Math.round(systemClock.ticks() - began)
    if (await isWhole(dataDir)) return waitedMs
    if (waitedMs > withinMs || over?.aborted) return undefined
    await sleep(lookEveryMs)
  }
}

async function isWhole(dataDir: string): Promise<boolean> {
  const status = await fleetStatus(dataDir)
  return (
    status.running &&
    status.parts.every(({ state, trouble, pid }) => {
      // A process that has just died is still shown as running.
      return state === 'running' && trouble === undefined && (pid === undefined || identify(pid).born !== '')
    })
  )
}
