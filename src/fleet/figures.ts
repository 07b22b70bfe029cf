import { cpuTimes, cpuUsedMs } from '../engines/process/cpu.ts'
import { sleep, systemClock } from '../kernel/clock.ts'
import { ownRouteLabel } from '../kernel/http-facts.ts'
import { engines } from './engines.ts'
import type { PartStatus } from './status.ts'

/** What a part does at this moment, over a sample of a second. */
export interface PartFigures {
  /** Share of one core that the part and its processes use. */
  load?: number
  /** Answered by a process of the app, without those that ask for its health. */
  requestsPerSecond?: number
  /** Of a server of the database. */
  role?: string
  /** Of a replica, in ms. */
  lagMs?: number
}

const sampleMs = 1_000
const answerWithinMs = 2_000

/** Returns the figures of running parts by name. What cannot be measured is left out. */
export async function partFiguresOf(
  parts: readonly PartStatus[],
  dataDir: string,
): Promise<ReadonlyMap<string, PartFigures>> {
  const running = parts.filter(({ pid, state }) => pid !== undefined && state === 'running')
  const look = async () => {
    const counts = await Promise.all(running.map(requestsOf))
    return { at: systemClock.ticks(), cpu: cpuTimes(), counts }
  }
  const roles = Promise.all(engines.map((engine) => engine.roles?.(running, dataDir, sampleMs).catch(() => undefined)))
  const before = await look()
  await sleep(sampleMs)
  const now = await look()
  const seconds = (now.at - before.at) / 1000
  const found = (await roles).flatMap((some) => [...(some ?? [])])
  const roleOf = new Map(found)
  return new Map(
    running.map(({ name, pid }, index): [string, PartFigures] => {
      const [from, to] = [before.counts[index], now.counts[index]]
      return [
        name,
        {
          load: cpuUsedMs(pid!, before.cpu, now.cpu) / 1000 / seconds,
          ...(from !== undefined && to !== undefined && { requestsPerSecond: Math.max(0, to - from) / seconds }),
          ...roleOf.get(name),
        },
      ]
    }),
  )
}

async function requestsOf({ name, address }: PartStatus): Promise<number | undefined> {
  if (!/^(app|web|both)\b/.test(name)) return undefined
  const text = await metricsOf(address)
  return text === undefined ? undefined : requestsIn(text)
}

/** Returns the text of `/metrics` of a process of the app, or `undefined` if it does not answer in time. */
export function metricsOf(address: string): Promise<string | undefined> {
  return fetch(`http://${address}/metrics`, { signal: AbortSignal.timeout(answerWithinMs) }).then(
    (answer) => (answer.ok ? answer.text() : undefined),
    () => undefined,
  )
}

/** Returns the number of answered requests of readers in the text of `/metrics`. Pure. */
export function requestsIn(metrics: string): number {
  let sum = 0
  for (const [, labels, count] of metrics.matchAll(/^http_request_duration_seconds_count\{(.*)\} (\S+)$/gm)) {
    if (!ownRouteLabel.test(labels!)) sum += Number(count)
  }
  return sum
}
