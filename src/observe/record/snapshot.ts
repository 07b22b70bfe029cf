import { type Histogram, keyOf, type Snapshot } from './frame.ts'

/** A metric as prom-client shows it. Buckets of a histogram are cumulative there, each series from its first bound to its count. */
export interface Metric {
  readonly name: string
  readonly type: unknown
  readonly values: readonly {
    readonly value: number
    readonly labels: Readonly<Record<string, string | number | undefined>>
    readonly metricName?: string
  }[]
}

export const recordedHistograms = [
  'http_request_duration_seconds',
  'db_statement_duration_seconds',
  'db_transaction_duration_seconds',
  'db_pool_wait_seconds',
  'job_duration_seconds',
  'job_wait_seconds',
  'outgoing_duration_seconds',
  'module_call_duration_seconds',
  'web_vital_seconds',
  'web_layout_shift',
] as const
/**
 * What is recorded of what `/metrics` shows. Where reading one sets another, it stands before it: the time of the processor, and `jobs`.
 * Nothing whose reading would reset it for those who read `/metrics`.
 */
export const recordedOfEach = [
  'process_info',
  'process_cpu_user_seconds_total',
  'process_cpu_system_seconds_total',
  'process_resident_memory_bytes',
  'nodejs_eventloop_busy_seconds_total',
  'http_requests_in_flight',
  'http_limited_total',
  'http_shed_total',
  'db_statement_errors_total',
  'db_pool_connections',
  'db_slow_statements_total',
  'db_reads_total',
  'db_server_in_rotation',
  'db_server_lag_seconds',
  'cache_requests_total',
  'cache_entries',
  'cache_bytes',
  'backup_failures_total',
  'backup_behind_bytes',
  'backup_archived_timestamp_seconds',
  'backup_uploaded_timestamp_seconds',
  'backup_base_timestamp_seconds',
  ...recordedHistograms,
] as const
/** Each process would say the same, so one records it. */
export const recordedOnce = [
  'jobs',
  'job_oldest_wait_seconds',
  'events_oldest_unsent_seconds',
  'disk_bytes',
  'machine_memory_bytes',
  'tls_certificate_end_timestamp_seconds',
] as const

/**
 * Stands for infinity, the lag of a replica that is further behind than a process remembers: JSON has no such number, and its sums must be
 * finite. Three decades in seconds.
 */
export const unbounded = 1e9

/** Returns a gauge's value as it is recorded; `undefined` for one that is no number. Pure. */
export function recordable(value: number): number | undefined {
  if (value === Number.POSITIVE_INFINITY) return unbounded
  return Number.isFinite(value) ? value : undefined
}

/** Pure. */
export function snapshotOf(metrics: readonly Metric[]): Snapshot {
  const snapshot = { counters: {}, gauges: {}, histograms: {} } as {
    -readonly [Kind in keyof Snapshot]: Record<string, Snapshot[Kind][string]>
  }
  for (const { name, type, values } of metrics) {
    if (type === 'histogram') snapshot.histograms[name] = histogramsOf(name, values)
    else {
      const byKey: Record<string, number> = {}
      for (const { labels, value } of values) {
        const known = recordable(value)
        if (known !== undefined) byKey[keyOf(labels)] = known
      }
      snapshot[type === 'counter' ? 'counters' : 'gauges'][name] = byKey
    }
  }
  return snapshot
}

function histogramsOf(name: string, values: Metric['values']): Record<string, Histogram> {
  const found: Record<string, { sum: number; counts: Record<string, number> }> = {}
  let [lower, below] = ['0', 0]
  for (const { metricName, labels: all, value } of values) {
    const { le, ...labels } = all
    const key = keyOf(labels)
    if (found[key] === undefined) [lower, below] = ['0', 0]
    found[key] ??= { sum: 0, counts: {} }
    if (metricName === `${name}_sum`) found[key].sum = value
    if (le === undefined) continue
    if (value > below) found[key].counts[`${lower}..${le}`] = value - below
    ;[lower, below] = [String(le), value]
  }
  return found
}
