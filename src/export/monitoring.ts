import type { Deployment } from '../fleet/deployment.ts'
import { ownRoutes } from '../kernel/http-facts.ts'
import { metricsPath } from '../observe/metrics.ts'
import { webNames } from './compose.ts'
import { appPort } from './environment.ts'
import { type Exported, type Files, mark, marked } from './files.ts'

/** For a Prometheus that runs beside the app, with the rules of its alerts, and a Grafana that asks it. Pure. */
export function monitoringFiles({ deployment, app }: Exported, target: 'compose' | 'kubernetes'): Files {
  return {
    'prometheus.yaml': `${marked()}\nrule_files: [rung.rules.yaml]\nalerting: { alertmanagers: [{ static_configs: [{ targets: [alertmanager:9093] }] }] }\n${target === 'compose' ? composeTargets(deployment) : kubernetesTargets(app.name)}`,
    'grafana.json': `${JSON.stringify(dashboard(app.name), null, 2)}\n`,
  }
}

/** Each web process is a service of its own, all workers are one. */
function composeTargets({ topology: { processes } }: Deployment): string {
  const names = [
    ...(processes.both > 0 ? ['app'] : webNames(processes.web)),
    ...(processes.worker > 0 ? ['worker'] : []),
  ]
  return `scrape_configs:
  - job_name: app
    metrics_path: ${metricsPath}
    dns_sd_configs:
      - { type: A, port: ${appPort}, refresh_interval: 15s, names: [${names.join(', ')}] }
`
}

/** By the annotations of the pods. */
function kubernetesTargets(app: string): string {
  return `scrape_configs:
  - job_name: ${app}
    kubernetes_sd_configs: [{ role: pod }]
    relabel_configs:
      - { source_labels: [__meta_kubernetes_pod_annotation_prometheus_io_scrape], regex: "true", action: keep }
      - { source_labels: [__meta_kubernetes_pod_container_name], regex: app, action: keep }
      - { source_labels: [__meta_kubernetes_pod_annotation_prometheus_io_path], regex: (.+), target_label: __metrics_path__ }
      - source_labels: [__meta_kubernetes_pod_ip, __meta_kubernetes_pod_annotation_prometheus_io_port]
        regex: (.+);(.+)
        replacement: $1:$2
        target_label: __address__
      - { source_labels: [__meta_kubernetes_pod_name], target_label: instance }
`
}

interface Panel {
  title: string
  /** Of Grafana. */
  unit: string
  queries: readonly [query: string, legend: string][]
}

const seconds = (metric: string, by: string, share = 0.95, labels = '') =>
  `histogram_quantile(${share}, sum by (le, ${by}) (rate(${metric}_bucket${labels}[$__rate_interval])))`
const perSecond = (metric: string, by: string, labels = '') =>
  `sum by (${by}) (rate(${metric}${labels}[$__rate_interval]))`

const asked = `{route!~"${ownRoutes}"}`

/** What one looks at first, from the clients inwards. */
export const panels: readonly Panel[] = [
  {
    title: 'Requests',
    unit: 'reqps',
    queries: [[perSecond('http_request_duration_seconds_count', 'module', asked), '{{module}}']],
  },
  {
    title: 'p95 of the ten slowest routes',
    unit: 's',
    queries: [
      [`topk(10, ${seconds('http_request_duration_seconds', 'method, route', 0.95, asked)})`, '{{method}} {{route}}'],
    ],
  },
  {
    title: 'Answers of 500 and more',
    unit: 'reqps',
    queries: [
      [perSecond('http_request_duration_seconds_count', 'route, status', '{status=~"5.."}'), '{{status}} {{route}}'],
    ],
  },
  {
    title: 'Refused: by limits, under too much load',
    unit: 'reqps',
    queries: [
      [perSecond('http_limited_total', 'limit'), 'limit {{limit}}'],
      [perSecond('http_shed_total', 'priority'), 'shed, {{priority}}'],
    ],
  },
  {
    title: 'Event loop of each process (1 is full)',
    unit: 'percentunit',
    queries: [['nodejs_eventloop_utilization', '{{instance}}']],
  },
  {
    title: 'CPU of each process, in cores',
    unit: 'none',
    queries: [[perSecond('process_cpu_seconds_total', 'instance'), '{{instance}}']],
  },
  {
    title: 'Memory of each process',
    unit: 'bytes',
    queries: [['process_resident_memory_bytes', '{{instance}}']],
  },
  {
    title: 'Database connections',
    unit: 'none',
    queries: [['sum by (target, state) (db_pool_connections)', '{{target}} {{state}}']],
  },
  {
    title: 'Waiting for a connection, p95',
    unit: 's',
    queries: [[seconds('db_pool_wait_seconds', 'target'), '{{target}}']],
  },
  {
    title: 'Statements',
    unit: 'ops',
    queries: [[perSecond('db_statement_duration_seconds_count', 'module, target'), '{{module}} on {{target}}']],
  },
  {
    title: 'Statements, p95',
    unit: 's',
    queries: [[seconds('db_statement_duration_seconds', 'module, command'), '{{module}} {{command}}']],
  },
  {
    title: 'Lag of replicas',
    unit: 's',
    queries: [['max by (server) (db_server_lag_seconds)', '{{server}}']],
  },
  {
    title: 'Lookups in the cache',
    unit: 'ops',
    queries: [[perSecond('cache_requests_total', 'outcome'), '{{outcome}}']],
  },
  {
    title: 'Jobs that wait',
    unit: 'none',
    queries: [
      ['max by (queue, state) (jobs)', '{{queue}} {{state}}'],
      ['max by (queue) (job_oldest_wait_seconds)', '{{queue}}, seconds of the oldest'],
    ],
  },
  {
    title: 'Events and the broker',
    unit: 'none',
    queries: [
      ['max by (database) (events_unsent)', '{{database}}, not in the broker'],
      ['max by (database, group) (events_behind)', '{{group}} is behind {{database}}'],
    ],
  },
  {
    title: 'Calls to other services, p95',
    unit: 's',
    queries: [[seconds('outgoing_duration_seconds', 'service, outcome'), '{{service}} {{outcome}}']],
  },
]

/** A dashboard of Grafana, with two panels in a row. It asks which Prometheus it is for. */
function dashboard(app: string) {
  const source = { type: 'prometheus', uid: `$${'{source}'}` } // Grafana's variable, not ours
  return {
    description: mark,
    title: `${app}: requests, processes, database`,
    uid: `rung-${app}`.slice(0, 40),
    schemaVersion: 39,
    refresh: '30s',
    time: { from: 'now-6h', to: 'now' },
    templating: { list: [{ name: 'source', label: 'Prometheus', type: 'datasource', query: 'prometheus' }] },
    panels: panels.map(({ title, unit, queries }, index) => ({
      ...{ id: index + 1, type: 'timeseries', title, datasource: source },
      gridPos: { x: 12 * (index % 2), y: 8 * Math.floor(index / 2), w: 12, h: 8 },
      fieldConfig: { defaults: { unit, min: 0 }, overrides: [] },
      targets: queries.map(([expr, legendFormat], n) => ({
        ...{ refId: String.fromCharCode(65 + n), datasource: source, expr, legendFormat },
      })),
    })),
  }
}
