import { identify, type Known, lives } from '../engines/process/pid-file.ts'
import { sleep, systemClock } from '../kernel/clock.ts'
import { RungError } from '../kernel/errors.ts'
import { engines } from './engines.ts'
import { startedOn } from './started.ts'
import { runningFleet } from './state.ts'

/** For processes that have not reported yet how long they need. */
const timeoutMsMin = 180_000

/**
 * Stops everything that runs on a data directory, and waits until it has ended; also an engine that outlived the process that
 * started it.
 * @returns the process that was stopped; `undefined` where nothing ran
 * @throws DATA_DIR_IN_USE, ENGINE_START_FAILED
 */
export async function stopAllOn(dataDir: string): Promise<number | undefined> {
  const fleet = await runningFleet(dataDir)
  const started = fleet ? [] : await startedOn(dataDir)
  const owners = fleet ? [identify(fleet.pid)] : started.map((one) => one.process)
  const timeouts = (fleet ? [fleet] : started).map(({ stopTimeoutMs }) => stopTimeoutMs)
  for (const { pid } of owners) process.kill(pid, 'SIGTERM')
  await untilEnded(owners, Math.max(timeoutMsMin, ...timeouts))
  if (fleet) return fleet.pid // its parts end with it
  const leftovers = (await Promise.all(engines.map(({ findLeftover }) => findLeftover?.(dataDir)))).filter(
    (one) => one !== undefined,
  )
  const used = leftovers.find(({ owned }) => owned)
  if (used) {
    throw new RungError(
      'DATA_DIR_IN_USE',
      `Another command uses the database in ${dataDir} (process ${used.pid}). The database stops when that command ends.`,
    )
  }
  for (const one of leftovers) await one.stop()
  return (owners[0] ?? leftovers[0])?.pid
}

async function untilEnded(owners: readonly Known[], timeoutMs: number): Promise<void> {
  const began = systemClock.ticks()
  for (let running = owners; running.length > 0; running = running.filter(lives)) {
    if (systemClock.ticks() - began > timeoutMs) {
      throw new RungError(
        'ENGINE_START_FAILED',
        `Process ${running[0]!.pid} has not stopped within ${timeoutMs / 1000} s. See what it waits for: rung ps`,
      )
    }
    await sleep(20)
  }
}
