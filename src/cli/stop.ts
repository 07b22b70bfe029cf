import path from 'node:path'
import { runningFleet } from '../fleet/state.ts'
import { sleep, systemClock } from '../kernel/clock.ts'
import { RungError } from '../kernel/errors.ts'
import type { Command } from './command.ts'
import { dataDirOf, dataOption } from './rung-config.ts'

/** Requests in hand, then jobs, have their time. */
const stopTimeoutMs = 180_000

const stop: Command = {
  name: 'stop',
  summary: 'stop what "rung up" started here',
  usage: 'rung stop [options]',
  help: [
    'Tells the "rung up" of this data directory to stop, and waits until nothing of it',
    'runs any more. Where nothing runs there is nothing to do.',
  ].join('\n'),
  examples: ['rung stop', 'rung stop --data /var/lib/my-app'],
  options: { data: dataOption },
  async run(input) {
    const { cwd, json, out } = input
    const dataDir = dataDirOf(input)
    const place = path.relative(cwd, dataDir) || '.'
    const fleet = await runningFleet(dataDir)
    if (!fleet) {
      if (json) out.json({ stopped: false, data: dataDir })
      else out.line(`Nothing runs here (data directory ${place}).`)
      return 0
    }
    const began = systemClock.ticks()
    process.kill(fleet.pid, 'SIGTERM')
    while ((await runningFleet(dataDir))?.pid === fleet.pid) {
      if (systemClock.ticks() - began > stopTimeoutMs) {
        throw new RungError(
          'ENGINE_START_FAILED',
          `Process ${fleet.pid} has not stopped after ${stopTimeoutMs / 1000} s. See what it waits for: rung ps`,
        )
      }
      await sleep(20)
    }
    if (json) out.json({ stopped: true, data: dataDir, pid: fleet.pid })
    else out.line(`Stopped what ran here (data directory ${place}).`)
    return 0
  },
}
export default stop
