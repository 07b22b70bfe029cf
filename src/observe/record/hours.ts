import type { Frame } from './frame.ts'
import { counted, distributed, gauged } from './groups.ts'
import { requestsOf } from './summary.ts'

/** What was used in one stretch of the record, mostly an hour. */
export interface Hour {
  /** ms since the epoch */
  from: number
  to: number
  requests: number
  /** Seconds in which requests were answered, and jobs run: of all, added up. */
  requestSeconds: number
  jobSeconds: number
  /** Cores in use on average, by role (`web`) or server (`postgres`). All processes of a role together. */
  cores: Readonly<Record<string, number>>
  /** The sum of what each process and server used at most. */
  memoryBytes: Readonly<Record<string, number>>
}

/** Pure. @param frames one for each process, as `readRecord` yields them */
export function hourOf({ from, to, frames }: { from: number; to: number; frames: readonly Frame[] }): Hour {
  const cores: Record<string, number> = {}
  const memoryBytes: Record<string, number> = {}
  const add = (to: Record<string, number>, name: string, value: number) => {
    to[name] = (to[name] ?? 0) + value
  }
  const total = (some: readonly Frame[], metric: string) =>
    counted(some, metric, []).reduce((sum, { value }) => sum + value, 0)
  for (const frame of frames) {
    const role = roleOf(frame)
    const used = total([frame], 'process_cpu_user_seconds_total') + total([frame], 'process_cpu_system_seconds_total')
    add(cores, role, used / ((to - from) / 1000))
    add(memoryBytes, role, gauged([frame], 'process_resident_memory_bytes', [])[0]?.value.max ?? 0)
  }
  const measured = new Map(
    counted(frames, 'server_measured_seconds_total', ['server']).map(({ labels, value }) => [labels.server!, value]),
  )
  for (const { labels, value } of counted(frames, 'server_cpu_seconds_total', ['server']))
    add(cores, labels.server!, value / (measured.get(labels.server!) ?? 1))
  for (const { labels, value } of gauged(frames, 'server_memory_bytes', ['server']))
    add(memoryBytes, labels.server!, value.max)
  const seconds = (metric: string) => distributed(frames, metric, []).reduce((sum, { value }) => sum + value.sum, 0)
  return {
    ...{ from, to, requests: requestsOf(frames), cores, memoryBytes },
    requestSeconds: seconds('http_request_duration_seconds'),
    jobSeconds: seconds('job_duration_seconds'),
  }
}

/** `web`, `worker`, `both`. */
export function roleOf(frame: Frame): string {
  return gauged([frame], 'process_info', ['role'])[0]?.labels.role ?? 'both'
}

/** Servers of the database: the primary, and replicas beside it. */
export const isDatabase = (name: string) => /^postgres(-\d+)?$/.test(name)
