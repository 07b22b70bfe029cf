import { readFile, rename, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { type CpuTimes, cpuTimes, cpuUsedMs } from '../engines/process/cpu.ts'
import { sleep, systemClock } from '../kernel/clock.ts'
import { isRungError, messageOf } from '../kernel/errors.ts'
import { leastAt } from '../topology/schedule.ts'
import type { Range, ScalingTopology, Topology } from '../topology/topology.ts'
import {
  type ProcessLook,
  type QueueMemory,
  type ScaleLook,
  type ScaleMemory,
  type ScalingStatus,
  scaleByLoad,
  scaleByQueue,
  webPolicy,
  workerPolicy,
} from './autoscaler.ts'
import type { ControlRequest, ScaleRequest } from './control.ts'
import { countsOf } from './counts.ts'
import { checkScale, type LiveRequest } from './live.ts'
import { countedBetween, quantileMs, type Reading, readingIn } from './readings.ts'
import type { SupervisedPart, Supervisor } from './supervisor.ts'

/** The processes that `rung scale` calls by this name: `web`, `worker`, or `media-web` of a group. */
type Scaled = string

export interface AutoscaleOptions {
  supervisor: Supervisor
  scaling: ScalingTopology
  /** The topology that runs now. */
  topology(): Topology
  /** Changes the fleet, as `rung scale` does. */
  live(request: LiveRequest, note: (text: string) => void): Promise<unknown>
  /** CPU cores that each process may use. */
  cores: number
  /** The folder of the file in which it remembers the peaks of the last week. */
  dir: string
  note(text: string): void
  /** Called when the status may have changed: after each look and each request. */
  onLook(): void
}

export interface Autoscale {
  /** Answers requests of other commands: a range of numbers starts the autoscaler for such processes, one number ends it. */
  handle(request: ControlRequest, note: (text: string) => void): Promise<unknown>
  status(): Readonly<Record<Scaled, ScalingStatus>>
  start(): void
  stop(): Promise<void>
}

const lookEveryMs = 1_000
const answerWithinMs = 5_000
/** What a process said this long ago no longer counts. */
const staleMs = 3_000
const saveEveryMs = 60_000
/** Until one was started. */
const startMsAtFirst = 5_000
const startsKept = 3

interface CpuLook {
  at: number
  times: CpuTimes
}

interface Seen {
  at: number
  reading: Reading
}

/** Keeps the numbers of web and worker processes where `autoscaler.ts` wants them. */
export function autoscale(options: AutoscaleOptions): Autoscale {
  const { supervisor, scaling, topology, live, cores, dir, note, onLook } = options
  const ranges = new Map<Scaled, Range>(
    (['web', 'worker'] as const).flatMap((role) => (scaling[role] ? [[role, scaling[role]]] : [])),
  )
  const reasons = new Map<Scaled, string>()
  const over = new AbortController()
  const seen = new Map<string, { pid: number; before?: Seen; last?: Seen; asking: boolean }>()
  let loads = new Map<Scaled, ScaleMemory>()
  let queue: QueueMemory | undefined
  let starts: number[] = []
  let cpu: CpuLook | undefined
  /** A change of its own and, if it failed, the pause after it. */
  let changing: Promise<void> | undefined
  /** The change itself. */
  let inProgress: Promise<void> | undefined
  let told = ''
  let running: Promise<void> = Promise.resolve()
  const file = path.join(dir, 'scaling.json')

  const partsOf = (name: Scaled) =>
    supervisor.parts.filter(
      ({ part, state }) =>
        part.kind === 'app' &&
        part.name.replace(/-\d+$/, '') === name &&
        state.state !== 'stopping' &&
        state.state !== 'stopped',
    )

  /** Asks a process for its figures, and does not wait for the answer: one that is busy answers late. */
  function ask({ part, state }: SupervisedPart): void {
    if (state.state !== 'running' || state.pid === undefined) return void seen.delete(part.name)
    const known = seen.get(part.name)
    const one = known?.pid === state.pid ? known : { pid: state.pid, asking: false }
    seen.set(part.name, one)
    if (one.asking) return
    one.asking = true
    fetch(`http://${part.address}/metrics`, { signal: AbortSignal.timeout(answerWithinMs) })
      .then(async (answer) => {
        const reading = readingIn(await answer.text())
        if (answer.ok) Object.assign(one, { before: one.last, last: { at: systemClock.ticks(), reading } })
      })
      .catch(() => {})
      .finally(() => {
        one.asking = false
      })
  }

  function look(name: Scaled, before: CpuLook | undefined, cpu: CpuLook): ScaleLook {
    const now = cpu.at
    const fresh = (part: SupervisedPart) => {
      const one = seen.get(part.part.name)
      return one?.last && now - one.last.at < staleMs ? one : undefined
    }
    const parts = partsOf(name)
    const processes = parts.map((one): ProcessLook => {
      const { state, since, pid } = one.state
      if (state !== 'running' || pid === undefined) return { readyMs: undefined }
      const readyMs = systemClock.now() - since
      if (!before || !cpu.times.has(pid)) return { readyMs }
      const used = cpuUsedMs(pid, before.times, cpu.times) / (now - before.at) / cores
      const reading = fresh(one)?.last?.reading
      return {
        readyMs,
        measures: {
          cpu: used,
          ...(reading?.loop !== undefined && { loop: reading.loop }),
          ...(reading && { inFlight: reading.inFlight }),
        },
      }
    })
    const pairs = parts.flatMap((one) => {
      const known = fresh(one)
      return known?.before ? [{ before: known.before, last: known.last! }] : []
    })
    const isComplete =
      pairs.length > 0 && pairs.length === processes.filter(({ readyMs }) => readyMs !== undefined).length
    return {
      now: systemClock.now(),
      processes,
      startMs: starts.length === 0 ? startMsAtFirst : Math.max(...starts),
      arrivals: isComplete ? pairs.reduce((sum, pair) => sum + arrivals(pair), 0) : undefined,
      p95Ms: quantileMs(
        countedBetween(pairs.map(({ before, last }) => [before.reading.durations, last.reading.durations])),
        0.95,
      ),
      // Behind a pooler more processes have no more connections.
      queueMs:
        topology().data.pooler === 'none'
          ? quantileMs(
              countedBetween(pairs.map(({ before, last }) => [before.reading.poolWaits, last.reading.poolWaits])),
              0.95,
            )
          : undefined,
    }
  }

  function oldestJobMs(): number | undefined {
    const now = systemClock.ticks()
    const ages = [...seen.values()].flatMap(({ last }) =>
      last && now - last.at < staleMs && last.reading.oldestJobMs !== undefined ? [last.reading.oldestJobMs] : [],
    )
    return ages.length === 0 ? undefined : Math.max(...ages)
  }

  function decide(): void {
    const present = countsOf(topology())
    for (const name of ranges.keys()) if (!Object.hasOwn(present, name)) forget(name) // its group has joined the others
    for (const name of new Set(['web', 'worker', ...ranges.keys()])) for (const one of partsOf(name)) ask(one)
    const [before, now] = [cpu, { at: systemClock.ticks(), times: cpuTimes() }]
    cpu = now
    const wanted: Record<Scaled, number> = {}
    for (const [name, range] of ranges) {
      const target = name === 'worker' ? byQueue(range) : byLoad(name, range, look(name, before, now))
      if (target !== partsOf(name).length) wanted[name] = target
    }
    if (Object.keys(wanted).length > 0 && !changing) {
      changing = apply(wanted).finally(() => {
        changing = undefined
      })
    }
  }

  function byLoad(name: Scaled, range: Range, seen: ScaleLook): number {
    const schedule = name === 'web' ? scaling.schedule : []
    const policy = { ...webPolicy, ...range, scheduled: (now: number) => leastAt(schedule, now) }
    const { target, reason, memory } = scaleByLoad(policy, loads.get(name), seen)
    loads.set(name, memory)
    reasons.set(name, reason)
    return target
  }

  function byQueue(range: Range): number {
    const { target, reason, memory } = scaleByQueue({ ...workerPolicy, ...range }, queue, {
      ...{ now: systemClock.now(), workers: partsOf('worker').length, oldestMs: oldestJobMs() },
    })
    if (!changing) queue = memory
    reasons.set('worker', reason)
    return target
  }

  /** Leaves the number to others. What is known of the load is kept, for when it is autoscaled again. */
  function forget(name: Scaled): void {
    ranges.delete(name)
    reasons.delete(name)
  }

  async function apply(wanted: Readonly<Record<Scaled, number>>): Promise<void> {
    const names = Object.keys(wanted)
    const before = countsOf(topology())
    // While another change is in progress this is tried again and again, and told once.
    const key = JSON.stringify(wanted)
    if (told !== key) for (const name of names) note(`${name}: ${reasons.get(name)}`)
    told = key
    const began = systemClock.ticks()
    try {
      const change = live({ command: 'scale', ...wanted }, note)
      const settled = () => {
        inProgress = undefined
      }
      inProgress = change.then(settled, settled)
      await change
      told = ''
      if (names.some((name) => wanted[name]! > before[name]!)) {
        starts = [...starts, systemClock.ticks() - began].slice(-startsKept)
      }
    } catch (error) {
      if (over.signal.aborted || (isRungError(error) && error.code === 'FLEET_BUSY')) return
      note(`The number of processes was not changed: ${messageOf(error)}`)
      await sleep(saveEveryMs, over.signal).catch(() => {}) // what failed is not tried again at once
    }
  }

  async function run(): Promise<void> {
    await supervisor.ready
    const kept = await readMemory(file)
    if (loads.size === 0) loads = new Map(Object.entries(kept?.loads ?? {}))
    if (starts.length === 0) starts = kept?.starts ?? []
    let savedAt = systemClock.ticks()
    while (!over.signal.aborted) {
      if (ranges.size > 0) {
        decide()
        onLook()
      }
      if (systemClock.ticks() - savedAt > saveEveryMs) {
        savedAt = systemClock.ticks()
        await save()
      }
      await sleep(lookEveryMs, over.signal).catch(() => {})
    }
    await save()
  }

  async function save(): Promise<void> {
    if (loads.size === 0) return
    const text = JSON.stringify({ loads: Object.fromEntries(loads), starts } satisfies Kept)
    await writeFile(`${file}.new`, text, { mode: 0o600 })
      .then(() => rename(`${file}.new`, file))
      .catch(() => {}) // a full disk must not end the fleet
  }

  return {
    async handle(request, tell) {
      if (inProgress && request.command !== 'kill' && request.command !== 'kill-zone') {
        tell('The autoscaler changes the number of processes now. This begins when it is done.')
        await inProgress
      }
      if (request.command !== 'scale') return live(request, tell)
      const present = countsOf(topology())
      const next = new Map(ranges)
      const counts: Record<string, number> = {}
      for (const [name, value] of Object.entries(numbersIn(request))) {
        if (typeof value === 'number') {
          next.delete(name)
          counts[name] = value
        } else {
          next.set(name, value)
          const within = Math.min(value.most, Math.max(value.least, present[name] ?? 0))
          if (within !== present[name]) counts[name] = within
        }
      }
      checkRoom(topology(), counts, next)
      const changed = Object.keys(counts).length > 0 || next.size === 0
      const result = changed ? await live({ command: 'scale', ...counts }, tell) : { before: present, now: present }
      for (const name of ranges.keys()) if (!next.has(name)) forget(name)
      for (const [name, range] of next) ranges.set(name, range)
      onLook()
      return next.size === 0 ? result : { ...(result as object), scaling: Object.fromEntries(next) }
    },
    status: () =>
      Object.fromEntries(
        [...ranges].map(([name, range]) => [name, { ...range, reason: reasons.get(name) ?? 'It begins to look.' }]),
      ),
    start() {
      running = run().catch(() => {}) // the fleet does not start
    },
    async stop() {
      over.abort(new Error('the fleet is being stopped'))
      await running
    },
  }
}

/** Returns the requests that arrived per second between two readings: those that were answered, and those that wait. */
function arrivals({ before, last }: { before: Seen; last: Seen }): number {
  const [from, to] = [before.reading, last.reading]
  const arrived = to.requests - from.requests + to.inFlight - from.inFlight
  return Math.max(0, arrived) / Math.max(0.001, (last.at - before.at) / 1000)
}

function numbersIn({ command: _, ...numbers }: ScaleRequest): Record<string, number | Range> {
  return numbers as Record<string, number | Range>
}

/**
 * Refuses a range whose largest numbers, and one more process during a restart, the running engines could not serve.
 * @throws COMMAND_INVALID
 */
function checkRoom(
  topology: Topology,
  counts: Readonly<Record<string, number>>,
  ranges: ReadonlyMap<Scaled, Range>,
): void {
  const most = Object.fromEntries([...ranges].map(([name, range]) => [name, range.most + 1]))
  if (ranges.size > 0) checkScale(topology, { ...countsOf(topology), ...counts, ...most })
}

interface Kept {
  loads: Readonly<Record<Scaled, ScaleMemory>>
  starts: number[]
}

/** Returns what an earlier run remembered. A file that cannot be read is no loss worth an error. */
async function readMemory(file: string): Promise<Kept | undefined> {
  try {
    const kept = JSON.parse(await readFile(file, 'utf8')) as Kept
    const isSlot = ({ since, most }: ScaleMemory['peaks'][number]) => Number.isFinite(since) && Number.isFinite(most)
    const isLoad = ({ at, peaks }: ScaleMemory) => Number.isFinite(at) && peaks.every(isSlot)
    return Object.values(kept.loads).every(isLoad) && kept.starts.every(Number.isFinite) ? kept : undefined
  } catch {
    return undefined
  }
}
