import { setTimeout as wait } from 'node:timers/promises'
import { runningFleet } from '../../src/fleet/state.ts'
import { seededRandom } from '../../src/kernel/random.ts'
import { until } from './process.ts'

export interface FleetKills {
  /** Names of the parts that were killed, in order. */
  readonly killed: readonly string[]
  /** Ends after the current kill, when its part is back. */
  stop(): Promise<void>
}

export interface FleetKillOptions {
  dataDir: string
  seed: number
  /** Names of parts; a name may be there several times. */
  victims: readonly string[]
  /** The longest time between the return of one part and the next kill. Default 1,000 ms. */
  pauseMsMax?: number
}

/** Kills parts of a running fleet with SIGKILL, one after the other, at random moments. Each has to come back before the next one dies. */
export function killParts({ dataDir, seed, victims, pauseMsMax = 1_000 }: FleetKillOptions): FleetKills {
  const random = seededRandom(seed)
  const killed: string[] = []
  let stopped = false
  const partOf = async (name: string) => (await runningFleet(dataDir))?.parts.find((part) => part.name === name)

  async function run(): Promise<void> {
    while (!stopped) {
      await wait(random() * pauseMsMax)
      if (stopped) return
      const name = victims[Math.floor(random() * victims.length)]!
      const { pid } = (await until(async () => {
        const part = await partOf(name)
        return part?.state === 'running' && part.pid !== undefined && part
      }, `${name} runs`))!
      process.kill(pid!, 'SIGKILL')
      killed.push(name)
      await until(async () => {
        const now = await partOf(name)
        return now?.state === 'running' && now.pid !== pid
      }, `${name} is back`)
    }
  }

  const running = run()
  running.catch(() => {}) // `stop` tells
  return {
    killed,
    async stop() {
      stopped = true
      await running
    },
  }
}

/** All that a fleet of rung 100k has beside its front and its primary. */
export const victimsOf100k = ['web-1', 'web-2', 'web-3', 'worker-1', 'postgres-2', 'postgres-3', 'redis', 'pooler']
