import path from 'node:path'
import { identify, type Known, lives } from '../engines/process/pid-file.ts'
import { engines } from '../fleet/engines.ts'
import { startedOn } from '../fleet/started.ts'
import { runningFleet } from '../fleet/state.ts'
import { sleep, systemClock } from '../kernel/clock.ts'
import { RungError } from '../kernel/errors.ts'
import { type Command, settingOptions } from './command.ts'
import { dataDirOf } from './input-settings.ts'

/** For processes that have not said yet how long they need. */
const leastTimeoutMs = 180_000

const stop: Command = {
  name: 'stop',
  summary: 'stop what runs here',
  usage: 'rung stop [options]',
  wordsMax: 0,
  help: [
    'Tells the "rung up" or "rung start" of this data directory to stop, and waits until',
    'nothing of it runs any more; also ends a Postgres that outlived a killed one. Where',
    'nothing runs there is nothing to do.',
  ].join('\n'),
  examples: ['rung stop', 'rung stop --data /var/lib/my-app'],
  options: settingOptions('process.dataDir'),
  async run(input) {
    const { cwd, json, out } = input
    const dataDir = dataDirOf(input)
    const place = path.relative(cwd, dataDir) || '.'
    const fleet = await runningFleet(dataDir)
    const started = fleet ? [] : await startedOn(dataDir)
    const owners = fleet ? [identify(fleet.pid)] : started.map((one) => one.process)
    const told = (fleet ? [fleet] : started).map(({ stopTimeoutMs }) => stopTimeoutMs)
    for (const { pid } of owners) process.kill(pid, 'SIGTERM')
    await untilGone(owners, Math.max(leastTimeoutMs, ...told))
    // Everything that "rung up" has started ends with it.
    const found = fleet ? [] : await Promise.all(engines.map(({ findLeftover }) => findLeftover?.(dataDir)))
    const left = found.filter((one) => one !== undefined)
    const used = left.find(({ owned }) => owned)
    if (used) {
      throw new RungError(
        'DATA_DIR_IN_USE',
        `Another command uses the database of ${place} (process ${used.pid}). It stops by itself when that has ended.`,
      )
    }
    for (const one of left) await one.stop()
    if (owners.length === 0 && left.length === 0) {
      if (json) out.json({ stopped: false, data: dataDir })
      else out.line(`Nothing runs here (data directory ${place}).`)
      return 0
    }
    if (json) out.json({ stopped: true, data: dataDir, pid: (owners[0] ?? left[0]!).pid })
    else out.line(`Stopped what ran here (data directory ${place}).`)
    return 0
  },
}
export default stop

async function untilGone(owners: readonly Known[], stopTimeoutMs: number): Promise<void> {
  const began = systemClock.ticks()
  for (let running = owners; running.length > 0; running = running.filter(lives)) {
    if (systemClock.ticks() - began > stopTimeoutMs) {
      throw new RungError(
        'ENGINE_START_FAILED',
        `Process ${running[0]!.pid} has not stopped after ${stopTimeoutMs / 1000} s. See what it waits for: rung ps`,
      )
    }
    await sleep(20)
  }
}
