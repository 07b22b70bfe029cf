import { ownRoutes } from '../../kernel/http-facts.ts'
import type { Expression, Leaf } from './expression.ts'

/** When something is told before it is an outage. */
export interface Rule {
  /** Kebab-case; also the name of its runbook, docs/runbooks/<name>.md. */
  readonly name: string
  /** `page`: someone looks now, and it opens an incident. `ticket`: it can wait for the working day. */
  readonly severity: 'page' | 'ticket'
  /** What happens, as a sentence without its full stop. */
  readonly summary: string
  readonly unit: 'share' | 'seconds' | 'count' | 'times'
  readonly value: Expression
  /** It begins while the value is above, or below, this … */
  readonly above?: number
  readonly below?: number
  /** … for so many minutes. 0: at once. */
  readonly forMinutes: number
  /** It goes on until the value is on the other side of this one: a value near the threshold does not begin and end again and again. */
  readonly end: number
  /** It goes on for so many more minutes, in case the value comes back. */
  readonly keepMinutes: number
  /** Only where these are above their bounds: a share of three requests says nothing. */
  readonly only?: readonly { readonly value: Expression; readonly above: number }[]
  /** What it looks at is only in the record, so it is no rule of Prometheus. */
  readonly recordOnly?: true
}

const requests = 'http_request_duration_seconds'
/** A process that is about to stop answers some of these with 503 on purpose. */
const ofClients = { route: { except: ownRoutes } } as const
const answers = (minutes: number): Leaf => {
  return { metric: requests, where: ofClients, by: ['module'], minutes, take: 'count' }
}
const failures = (minutes: number): Leaf => {
  return { ...answers(minutes), where: { ...ofClients, status: { matches: '5..' } } }
}
const failed = (minutes: number): Expression => ({ ratio: [failures(minutes), answers(minutes)] })
const p95 = (minutes: number): Leaf => ({ ...answers(minutes), take: 'quantile', share: 0.95 })
const connections = (state: string): Leaf => ({
  metric: 'db_pool_connections',
  // The pool for Rung's own statements is small, and may be all in use.
  where: { state, target: { matches: 'read|write' } },
  by: ['database', 'target', 'process'],
  minutes: 5,
  take: 'mean',
})
const disk = (state: string, take: 'last' | 'slope' | 'samples', minutes: number): Leaf => {
  return { metric: 'disk_bytes', where: { state }, by: ['host'], minutes, take }
}
const memory = (state: string): Leaf => {
  return { metric: 'machine_memory_bytes', where: { state }, by: ['host'], minutes: 10, take: 'mean' }
}
/** An archiver that has died says nothing any more: what it said last counts for hours. */
const latest = (metric: string): Leaf => ({ metric, by: [], minutes: 360, take: 'highest' })
const statement = (metric: string, minutes: number): Leaf => {
  return { metric, by: ['database', 'id', 'text'], minutes, take: 'increase' }
}
const meanTime = (minutes: number): Expression => ({
  ratio: [statement('db_statement_seconds_total', minutes), statement('db_statement_calls_total', minutes)],
})

const day = 86_400
/** 99.9 % of requests are to be answered: at most this share may fail. */
const budget = 0.001

/**
 * All rules. Rung evaluates them over its record, and writes them as rules of Prometheus: from here come both.
 * The longest window is `windowMinutesMax`.
 */
export const rules: readonly Rule[] = [
  {
    name: 'pool-used',
    severity: 'page',
    summary: 'A process uses most of its database connections',
    unit: 'share',
    value: { most: { ratio: [connections('busy'), connections('max')] }, by: ['database', 'target'] },
    ...{ above: 0.8, end: 0.7, forMinutes: 2, keepMinutes: 5 },
  },
  {
    name: 'replica-lag',
    severity: 'ticket',
    summary: 'A replica has been behind for five minutes',
    unit: 'seconds',
    value: { metric: 'db_server_lag_seconds', by: ['database', 'server'], minutes: 5, take: 'lowest' },
    ...{ above: 2, end: 1, forMinutes: 0, keepMinutes: 5 }, // reads leave a replica at 5 s
  },
  {
    // Workbook of Site Reliability Engineering (2018), chapter 5, table 5-8: 2 % of the budget of 30 days in an hour.
    name: 'errors-fast',
    severity: 'page',
    summary: 'Requests fail so often that the error budget of a month is used up in two days',
    unit: 'share',
    value: { least: [failed(60), failed(5)] },
    only: [{ value: failures(60), above: 10 }],
    ...{ above: 14.4 * budget, end: 7 * budget, forMinutes: 2, keepMinutes: 5 },
  },
  {
    // The same table: 5 % of the budget in six hours.
    name: 'errors-slow',
    severity: 'ticket',
    summary: 'Requests fail so often that the error budget of a month is used up in five days',
    unit: 'share',
    value: { least: [failed(360), failed(30)] },
    only: [{ value: failures(360), above: 10 }],
    ...{ above: 6 * budget, end: 3 * budget, forMinutes: 15, keepMinutes: 15 },
  },
  {
    name: 'p95-rising',
    severity: 'ticket',
    summary: 'The p95 of requests is twice that of the last six hours, and above 100 ms',
    unit: 'times',
    value: { ratio: [p95(30), p95(360)] },
    only: [
      { value: p95(30), above: 0.1 },
      { value: answers(30), above: 200 },
    ],
    ...{ above: 2, end: 1.5, forMinutes: 10, keepMinutes: 10 },
  },
  {
    name: 'requests-shed',
    severity: 'page',
    summary: 'Requests are refused because there is more load than the processes can take',
    unit: 'share',
    value: {
      ratio: [
        { metric: 'http_shed_total', by: [], minutes: 5, take: 'increase' },
        { metric: requests, by: [], minutes: 5, take: 'count' },
      ],
    },
    ...{ above: 0.01, end: 0.001, forMinutes: 2, keepMinutes: 5 },
  },
  {
    name: 'event-loop',
    severity: 'ticket',
    summary: 'A process uses most of the one core that it can use',
    unit: 'share',
    value: {
      most: { metric: 'nodejs_eventloop_busy_seconds_total', by: ['process'], minutes: 5, take: 'rate' },
      by: [],
    },
    ...{ above: 0.7, end: 0.6, forMinutes: 5, keepMinutes: 5 },
  },
  {
    name: 'job-age',
    severity: 'page',
    summary: 'Jobs have been waiting for more than five minutes',
    unit: 'seconds',
    value: { metric: 'job_oldest_wait_seconds', by: ['queue'], minutes: 5, take: 'lowest' },
    ...{ above: 300, end: 60, forMinutes: 0, keepMinutes: 5 },
  },
  {
    name: 'events-unsent',
    severity: 'ticket',
    summary: 'Published events do not reach the broker',
    unit: 'seconds',
    value: { metric: 'events_oldest_unsent_seconds', by: ['database'], minutes: 5, take: 'lowest' },
    ...{ above: 60, end: 30, forMinutes: 0, keepMinutes: 5 },
  },
  {
    name: 'dead-letters',
    severity: 'ticket',
    summary: 'Jobs or deliveries have failed for the last time',
    unit: 'count',
    // A queue without jobs has no count, so a longer window would go on with the last one.
    value: { metric: 'jobs', where: { state: 'dead' }, by: ['queue'], minutes: 2, take: 'last' },
    ...{ above: 0, end: 0, forMinutes: 0, keepMinutes: 0 },
  },
  {
    name: 'outgoing-failing',
    severity: 'ticket',
    summary: 'Calls to another service fail',
    unit: 'share',
    value: {
      ratio: [
        {
          metric: 'outgoing_duration_seconds',
          where: { outcome: { matches: 'failed|timeout|open|full' } },
          by: ['service'],
          minutes: 10,
          take: 'count',
        },
        { metric: 'outgoing_duration_seconds', by: ['service'], minutes: 10, take: 'count' },
      ],
    },
    ...{ above: 0.2, end: 0.05, forMinutes: 5, keepMinutes: 5 },
  },
  {
    name: 'disk-date',
    severity: 'ticket',
    summary: 'The disk of the data directory is full within four days, if it goes on like this',
    unit: 'seconds',
    value: { emptyIn: disk('free', 'last', 5), slope: disk('free', 'slope', 360) },
    // The line through some minutes is that of a start, or of a job.
    only: [{ value: disk('free', 'samples', 360), above: 60 }],
    ...{ below: 4 * day, end: 6 * day, forMinutes: 60, keepMinutes: 30 },
  },
  {
    name: 'disk-low',
    severity: 'page',
    summary: 'Little of the disk of the data directory is free',
    unit: 'share',
    value: { ratio: [disk('free', 'last', 5), disk('all', 'last', 5)] },
    ...{ below: 0.1, end: 0.15, forMinutes: 5, keepMinutes: 0 },
  },
  {
    name: 'memory-low',
    severity: 'page',
    summary: 'Little memory of the machine is free',
    unit: 'share',
    value: { ratio: [memory('free'), memory('all')] },
    ...{ below: 0.08, end: 0.15, forMinutes: 5, keepMinutes: 5 },
  },
  {
    name: 'certificate-ends',
    severity: 'page',
    summary: 'The certificate of the entry ends within a week',
    unit: 'seconds',
    value: { until: { metric: 'tls_certificate_end_timestamp_seconds', by: [], minutes: 5, take: 'highest' } },
    ...{ below: 7 * day, end: 8 * day, forMinutes: 5, keepMinutes: 0 },
  },
  {
    name: 'backup-behind',
    severity: 'page',
    summary: 'What was committed in the last five minutes and before is in no backup',
    unit: 'seconds',
    value: { since: latest('backup_archived_timestamp_seconds') },
    ...{ above: 300, end: 60, forMinutes: 2, keepMinutes: 0 },
  },
  {
    name: 'backup-bucket-behind',
    severity: 'ticket',
    summary: 'What was committed in the last hour is not in the bucket of the backups',
    unit: 'seconds',
    value: { since: latest('backup_uploaded_timestamp_seconds') },
    ...{ above: 3_600, end: 600, forMinutes: 5, keepMinutes: 0 },
  },
  {
    name: 'backup-base-old',
    severity: 'ticket',
    summary: 'The last base backup is more than two days old',
    unit: 'seconds',
    value: { since: latest('backup_base_timestamp_seconds') },
    ...{ above: 2 * day, end: 2 * day, forMinutes: 5, keepMinutes: 0 },
  },
  {
    // A plan that changed shows itself in the mean time of the statement.
    name: 'statement-slower',
    severity: 'ticket',
    summary: 'A statement takes three times as long as in the last six hours: its plan may be another one',
    unit: 'times',
    value: { ratio: [meanTime(20), meanTime(360)] },
    only: [
      { value: statement('db_statement_calls_total', 20), above: 20 },
      { value: statement('db_statement_seconds_total', 20), above: 5 },
    ],
    recordOnly: true,
    ...{ above: 3, end: 2, forMinutes: 0, keepMinutes: 10 },
  },
]

export const windowMinutesMax = 360
