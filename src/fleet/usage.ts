import { availableParallelism, cpus } from 'node:os'
import { type CpuTimes, cpuTimes, cpuUsedMs } from '../engines/process/cpu.ts'
import { every, systemClock } from '../kernel/clock.ts'
import { metricsOf } from './figures.ts'
import { countedBetween, quantileMs, type Reading, readingIn } from './readings.ts'
import { type SessionUsage, watchSessions } from './sessions.ts'
import { isApp, type PartStatus } from './status.ts'

/** What the parts of an app used during a stretch of time. */
export interface Usage {
  seconds: number
  parts: readonly PartUsage[]
  /** All processes of this machine together: cores that were busy, of how many. */
  machine: { cores: number; of: number }
}

export interface PartUsage {
  name: string
  /** CPU cores that it used on average. */
  cores: number
  /** Cores that it can use: one of a program with one thread, its quota, or those of the machine. */
  of: number
  /** Of a process of the app: share of time in which its event loop was busy. */
  loop?: number
  /** Of a process of the app: how long 95 of 100 statements waited at most for a connection, in ms. */
  poolWait95Ms?: number
  /** Of a server of the database, and of the pooler. */
  sessions?: SessionUsage
}

/** Something that cannot do more, and the figure that says so. */
export interface Saturated {
  part: string
  figure: string
  /** 1 is all of it. */
  share: number
}

/** Of the time that a resource has. Above this, queues grow quickly. */
const saturatedAt = 0.85
/** Of the time of sessions that work: what most of it is spent with is what to look at first. */
const waitingAt = 0.5

interface Look {
  at: number
  times: CpuTimes
  machine: { busy: number; all: number }
  readings: ReadonlyMap<string, Reading>
}

/** Programs whose work is done in one thread. */
const oneThread = (name: string) => isApp(name) || /^(redis|pooler)\b/.test(name)

/** Starts to watch. The returned function ends it, and returns what was used meanwhile. */
export async function watchUsage(
  parts: readonly PartStatus[],
  quotaCores = Number.POSITIVE_INFINITY,
): Promise<() => Promise<Usage>> {
  const running = parts.filter(({ pid, state }) => pid !== undefined && state === 'running')
  const before = await look(running)
  const sessions = new Map(
    await Promise.all(running.map(async (part) => [part.name, await watchSessions(part)] as const)),
  )
  /** A process whose parent ends is a child of another one: short looks miss less. */
  const used = new Map<string, number>()
  let last = before.times
  function add(): void {
    const now = cpuTimes()
    const servers = running.filter(({ name }) => !isApp(name))
    for (const { name, pid } of running) {
      // What "rung start" runs is a child of it, and a part of its own.
      const inside = isApp(name) ? servers.filter((one) => now.get(one.pid!)?.parent === pid) : []
      const own = inside.reduce((sum, one) => sum - cpuUsedMs(one.pid!, last, now), cpuUsedMs(pid!, last, now))
      used.set(name, (used.get(name) ?? 0) + Math.max(0, own))
    }
    last = now
  }
  const endTimer = every(250, add)
  return async () => {
    endTimer()
    add()
    const now = await look(running)
    const seen = new Map(await Promise.all([...sessions].map(async ([name, end]) => [name, await end()] as const)))
    const ms = now.at - before.at
    const all = availableParallelism()
    return {
      seconds: ms / 1_000,
      machine: {
        cores: (all * (now.machine.busy - before.machine.busy)) / (now.machine.all - before.machine.all),
        of: all,
      },
      parts: running.map(({ name }): PartUsage => {
        const [from, to] = [before.readings.get(name), now.readings.get(name)]
        const ofSessions = seen.get(name)
        const waited = from && to && quantileMs(countedBetween([[from.poolWaits, to.poolWaits]]), 0.95)
        return {
          name,
          cores: used.get(name)! / ms,
          of: Math.min(oneThread(name) ? 1 : all, isApp(name) ? quotaCores : all),
          ...(to?.loop !== undefined && { loop: to.loop }),
          ...(waited !== undefined && { poolWait95Ms: waited }),
          ...(ofSessions && { sessions: ofSessions }),
        }
      }),
    }
  }
}

/** Returns what was used up, the most used first. Pure. */
export function saturatedIn({ parts, machine }: Usage, p95MsMax?: number): Saturated[] {
  const found: Saturated[] = []
  const look = (part: string, share: number, figure: string) => {
    if (share >= saturatedAt) found.push({ part, figure, share })
  }
  const percent = (share: number) => `${Math.round(100 * share)} %`
  for (const { name, cores, of, loop, poolWait95Ms } of parts) {
    look(name, cores / of, `${percent(cores / of)} of ${of === 1 ? 'one core' : `${of} cores`}`)
    if (loop !== undefined) look(name, loop, `its event loop is busy for ${percent(loop)} of the time`)
    if (poolWait95Ms !== undefined && p95MsMax !== undefined)
      look(name, poolWait95Ms / p95MsMax, `its statements wait ${Math.round(poolWait95Ms)} ms for a connection (p95)`)
  }
  for (const { name, sessions } of parts) {
    if (!sessions) continue
    const { active, waiting, connections } = sessions
    for (const [what, count] of Object.entries(waiting)) {
      const share = count / active
      if (count >= 1 && share >= waitingAt)
        found.push({
          part: name,
          share,
          figure: `${percent(share)} of the time its sessions wait for ${what}, ${count.toFixed(1)} at a time`,
        })
    }
    if (connections)
      look(
        name,
        connections.most / connections.of,
        `${connections.most} of its ${connections.of} connections are taken`,
      )
  }
  look('machine', machine.cores / machine.of, `${percent(machine.cores / machine.of)} of its ${machine.of} cores`)
  return found.sort((a, b) => b.share - a.share)
}

async function look(parts: readonly PartStatus[]): Promise<Look> {
  const readings = new Map<string, Reading>()
  await Promise.all(
    parts.map(async ({ name, address }) => {
      if (!isApp(name)) return
      const text = await metricsOf(address)
      if (text !== undefined) readings.set(name, readingIn(text))
    }),
  )
  return { at: systemClock.ticks(), times: cpuTimes(), machine: machineTimes(), readings }
}

function machineTimes(): { busy: number; all: number } {
  let [busy, all] = [0, 0]
  for (const { times } of cpus()) {
    const sum = Object.values(times).reduce((a, b) => a + b, 0)
    all += sum
    busy += sum - times.idle
  }
  return { busy, all }
}
