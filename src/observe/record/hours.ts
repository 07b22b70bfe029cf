import { type Frame, merge } from './frame.ts'
import { counted, distributed, gauged, sketched } from './groups.ts'
import { addSketches, countIn, type Sketch } from './sketch.ts'
import { answersOf, coveredMs, type DayPeak, dayPeaks } from './summary.ts'
import type { Slice } from './table.ts'
import { type Usage, usageOf } from './usage.ts'

/** What was used in one hour of the record, or in another slice of it. */
export interface Hour {
  /** ms since the epoch */
  from: number
  to: number
  /** How much of it was recorded. */
  coveredMs: number
  requests: number
  /** 95 of 100 answers came within so many ms; 0 without requests. */
  p95Ms: number
  /** Cores in use while it was recorded, by role (`web`) or server (`postgres`). All processes of a role together. */
  cores: Readonly<Record<string, number>>
  /** The sum of what each process and server used at most. */
  memoryBytes: Readonly<Record<string, number>>
  /** Each process. */
  nodes: readonly NodeHour[]
  queues: readonly QueueHour[]
  /** Users who are registered, where that was counted. */
  registered?: number
}

export interface NodeHour {
  node: string
  role: string
  memoryBytes: number
  /** Share of time in which its event loop was busy. */
  loop: number
}

export interface QueueHour {
  queue: string
  /** On average. */
  waiting: number
  oldestSeconds: number
  done: number
  failed: number
  /** Of the runs, added up. */
  seconds: number
}

/** Pure. @param slice frames, one for each process, as `readRecord` yields them */
export function hourOf({ from, to, frames }: Slice): Hour {
  const covered = coveredMs(frames)
  const [cores, memoryBytes] = [{} as Record<string, number>, {} as Record<string, number>]
  const add = (to: Record<string, number>, name: string, value: number) => {
    to[name] = (to[name] ?? 0) + value
  }
  const nodes = frames.map((frame): NodeHour => {
    const total = (metric: string) => counted([frame], metric, []).reduce((sum, { value }) => sum + value, 0)
    const role = roleOf(frame)
    const memory = gauged([frame], 'process_resident_memory_bytes', [])[0]?.value
    const used = total('process_cpu_user_seconds_total') + total('process_cpu_system_seconds_total')
    add(cores, role, used / (covered / 1000))
    add(memoryBytes, role, memory?.max ?? 0)
    return {
      ...{ node: frame.node, role, memoryBytes: memory ? memory.sum / memory.count : 0 },
      loop: Math.min(1, total('nodejs_eventloop_busy_seconds_total') / (frame.ms / 1000)),
    }
  })
  const measured = new Map(
    counted(frames, 'server_measured_seconds_total', ['server']).map(({ labels, value }) => [labels.server!, value]),
  )
  for (const { labels, value } of counted(frames, 'server_cpu_seconds_total', ['server']))
    add(cores, labels.server!, value / measured.get(labels.server!)!)
  for (const { labels, value } of gauged(frames, 'server_memory_bytes', ['server']))
    add(memoryBytes, labels.server!, value.max)
  const { requests, p95Ms } = answersOf(frames) ?? { requests: 0, p95Ms: 0 }
  const registered = gauged(frames, 'users_registered', [])[0]?.value.max
  return {
    ...{ from, to, coveredMs: covered, requests, p95Ms, cores, memoryBytes, nodes, queues: queuesIn(frames) },
    ...(registered !== undefined && { registered }),
  }
}

function queuesIn(frames: readonly Frame[]): QueueHour[] {
  const queues = new Map<string, QueueHour>()
  const change = (queue: string, of: (known: QueueHour) => Partial<QueueHour>) => {
    const known = queues.get(queue) ?? { queue, waiting: 0, oldestSeconds: 0, done: 0, failed: 0, seconds: 0 }
    queues.set(queue, { ...known, ...of(known) })
  }
  for (const { labels, value } of gauged(frames, 'jobs', ['queue', 'state']))
    if (labels.state === 'waiting') change(labels.queue!, () => ({ waiting: value.sum / value.count }))
  for (const { labels, value } of gauged(frames, 'job_oldest_wait_seconds', ['queue']))
    change(labels.queue!, () => ({ oldestSeconds: value.max }))
  for (const { labels, value } of distributed(frames, 'job_duration_seconds', ['queue', 'outcome'])) {
    const runs = Object.values(value.counts).reduce((a, b) => a + b, 0)
    change(labels.queue!, ({ done, failed, seconds }) => ({
      ...(labels.outcome === 'done' ? { done: done + runs } : { failed: failed + runs }),
      seconds: seconds + value.sum,
    }))
  }
  return [...queues.values()]
}

/** `web`, `worker`, `both`. */
export function roleOf(frame: Frame): string {
  return gauged([frame], 'process_info', ['role'])[0]?.labels.role ?? 'both'
}

/** Servers of the database: the primary, and replicas beside it. */
export const isDatabase = (name: string) => /^postgres(-\d+)?$/.test(name)

const dayMs = 86_400_000
const weekMs = 7 * dayMs

/** The record as commands judge it. */
export interface Recorded {
  /** When it begins, and until when it was read: ms since the epoch. */
  since: number
  until: number
  /** In which something was recorded, the oldest first. */
  hours: readonly Hour[]
  /** Of whole days. */
  peaks: readonly DayPeak[]
  /** Weeks of seven whole days, the oldest first, and how many signed-in users each had; 0 where nobody signs in. */
  weeks: readonly { requests: number; users: number }[]
  /** Of the last seven days, one for each process. */
  frames: readonly Frame[]
  usage: Usage
}

/** Puts hours together, the oldest first. Pure, and in one pass: the frames of a year do not fit into memory. */
export async function recordedFrom(
  slices: AsyncIterable<Slice> | Iterable<Slice>,
  { since, until }: { since: number; until: number },
): Promise<Recorded> {
  const hours: Hour[] = []
  const week = new Map<string, Frame>()
  const users = new Map<number, Sketch>()
  for await (const slice of slices) {
    hours.push(hourOf(slice))
    const [seen] = sketched(slice.frames, 'users_active', [])
    const day = Math.floor(slice.from / dayMs) * dayMs
    if (seen) users.set(day, addSketches(users.get(day) ?? {}, seen.value))
    if (slice.from < until - weekMs) continue
    for (const frame of slice.frames) {
      const known = week.get(frame.node)
      week.set(frame.node, known ? merge([known, frame]) : frame)
    }
  }
  const peaks = dayPeaks(hours, since, until)
  return {
    ...{ since, until, hours, peaks, frames: [...week.values()] },
    weeks: weeksOf(hours, users, since, until),
    usage: usageOf({ hours, peaks, users }, since, until),
  }
}

/** Weeks are counted back from the last whole day. */
function weeksOf(
  hours: readonly Hour[],
  users: ReadonlyMap<number, Sketch>,
  since: number,
  until: number,
): Recorded['weeks'] {
  const today = Math.floor(until / dayMs) * dayMs
  const whole = Math.floor((today - Math.ceil(since / dayMs) * dayMs) / weekMs)
  return Array.from({ length: Math.max(0, whole) }, (_, back) => {
    const isIn = (time: number) => time < today - back * weekMs && time >= today - (back + 1) * weekMs
    return {
      requests: hours.reduce((sum, { from, requests }) => sum + (isIn(from) ? requests : 0), 0),
      users: countIn([...users].flatMap(([day, seen]) => (isIn(day) ? [seen] : [])).reduce(addSketches, {})),
    }
  }).reverse()
}
