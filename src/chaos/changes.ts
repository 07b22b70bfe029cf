import { identify, type Known, lives } from '../engines/process/pid-file.ts'
import { askFleet, type ControlRequest } from '../fleet/control.ts'
import { runningFleet } from '../fleet/state.ts'
import { sleep, systemClock } from '../kernel/clock.ts'
import { isRungError } from '../kernel/errors.ts'
import { type Fault, noEffect, type Undo } from './fault.ts'
import { fleetToStrike } from './parts.ts'

/** No faults, but what people do to a fleet: it must be possible while parts fail. The balancer stands for all web processes. */

const scale: Fault = {
  name: 'scale',
  does: 'adds a web process, and removes it again',
  shows: 'No request fails.',
  on: ['balancer'],
  lasts: true,
  async inject({ dataDir }, undoBy) {
    const before = await webCount(dataDir)
    await undoBy({
      how: 'ask-fleet',
      fleet: await supervisorOf(dataDir),
      dataDir,
      request: { command: 'scale', web: before },
    })
    await ask(dataDir, { command: 'scale', web: before + 1 })
    const now = await webCount(dataDir)
    if (now !== before + 1) throw noEffect(`There are ${now} web processes instead of ${before + 1}.`)
    return { did: `${now} web processes instead of ${before}` }
  },
}

const roll: Fault = {
  name: 'roll',
  does: 'restarts all web processes, one after the other',
  shows: 'No request fails.',
  on: ['balancer'],
  lasts: false,
  async inject({ dataDir }) {
    const { restarted } = (await ask(dataDir, { command: 'restart', part: 'web' })) as { restarted: string[] }
    return { did: `restarted ${restarted.join(', ')}` }
  },
}

const deploy: Fault = {
  name: 'deploy',
  does: 'deploys the code that runs as another build, and the present build again',
  shows: 'No request fails. A deploy during other faults may be taken back.',
  on: ['balancer'],
  lasts: true,
  async inject({ dataDir }, undoBy) {
    const before = (await runningFleet(dataDir))?.parts.find(({ build }) => build !== undefined)?.build
    if (before === undefined) throw noEffect('No process of the app says which build it runs.')
    await undoBy({
      how: 'ask-fleet',
      fleet: await supervisorOf(dataDir),
      dataDir,
      request: { command: 'deploy', build: before, watchMs: 0 },
    })
    const build = `chaos-${systemClock.now().toString(36)}`
    const { outcome } = (await ask(dataDir, { command: 'deploy', build, watchMs: 0 })) as { outcome: string }
    return { did: `build ${build}: ${outcome}` }
  },
}

export const changes: readonly Fault[] = [scale, roll, deploy]

/** A fleet that was started since is not asked: it began as it should be. */
export async function askAgain({ fleet, dataDir, request }: Extract<Undo, { how: 'ask-fleet' }>): Promise<void> {
  if (!lives(fleet)) return
  await ask(dataDir, request).catch((error) => {
    if (!isRungError(error, 'FLEET_NOT_RUNNING')) throw error // it is just being stopped
  })
}

async function supervisorOf(dataDir: string): Promise<Known> {
  return identify((await fleetToStrike(dataDir)).pid)
}

const busyMsMax = 120_000
const askEveryMs = 200

async function ask(dataDir: string, request: ControlRequest): Promise<unknown> {
  for (const giveUpAt = systemClock.ticks() + busyMsMax; ; await sleep(askEveryMs)) {
    try {
      return await askFleet(dataDir, request, () => {})
    } catch (error) {
      if (!isRungError(error, 'FLEET_BUSY') || systemClock.ticks() > giveUpAt) throw error
    }
  }
}

async function webCount(dataDir: string): Promise<number> {
  return ((await runningFleet(dataDir))?.parts ?? []).filter(({ name }) => /^web-\d+$/.test(name)).length
}

/** Whether it is no fault: a change of the fleet, which must succeed and be noticed by nobody. */
export function isChange(fault: string): boolean {
  return changes.some(({ name }) => name === fault)
}
