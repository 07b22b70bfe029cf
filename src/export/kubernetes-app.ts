import { natsPorts, natsUser } from '../engines/nats/recipe.ts'
import { nginxPackages } from '../engines/nginx/recipe.ts'
import { poolerPort } from '../engines/pgbouncer/recipe.ts'
import { appDatabase, appRole } from '../engines/postgres/recipe.ts'
import { webPolicy } from '../fleet/autoscaler.ts'
import type { Role, Topology } from '../topology/topology.ts'
import { edgeCommand, edgePorts } from './engine-files.ts'
import { appPort, eventSettings } from './environment.ts'
import { type Exported, flow, lines, literal, marked } from './files.ts'

/** What the manifests decide from. */
export interface Plan extends Exported {
  /** Engines that run in the cluster. Others are named by URLs in the Secret. */
  readonly own: {
    readonly postgres: boolean
    readonly pooler: boolean
    readonly redis: boolean
    readonly nats: boolean
  }
  readonly hasEdge: boolean
  /** Hosts of the database in the cluster: the one that leads to the primary, and with replicas one for each server. */
  readonly servers: readonly string[]
}

/** Returns the addresses of the nodes of NATS. */
export function natsUrls(nodes: number): string {
  const hosts = Array.from({ length: nodes }, (_, index) => `nats-${index}.nats:${natsPorts.clients}`)
  return hosts.map((host) => `nats://${natsUser}:$(NATS_PASSWORD)@${host}`).join(',')
}

/** The app's own port, for health and figures, and for the page cache if there is one. */
export const ownPort = (plan: Pick<Plan, 'hasEdge'>, role: Role) => (plan.hasEdge && role !== 'worker' ? 3001 : appPort)

/** A pod that is being ended gets requests until all balancers have heard of it, so it goes on for this long before SIGTERM. */
const preStopMs = 10_000
const marginMs = 5_000

/** Behind a balancer the number of web processes is left to the autoscaler of the cluster, up to this many times as many. */
const growth = 3

/** Returns the topology with the range that its numbers of processes may have. */
export function scalingOf(topology: Topology): Topology {
  const { balancer, processes, scaling } = topology
  if (balancer.engine === 'none' || scaling.web) return topology
  return { ...topology, scaling: { ...scaling, web: { least: processes.web, most: growth * processes.web } } }
}

export const nameOf: Readonly<Record<Role, string>> = { both: 'app', web: 'web', worker: 'worker' }

export const hardened =
  'securityContext: { allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: { drop: [ALL] } }'
export const podSecurity = (user: number) =>
  `securityContext: { runAsNonRoot: true, runAsUser: ${user}, seccompProfile: { type: RuntimeDefault } }`

/** Returns the disruption budget of a part. One pod at a time may be taken away: that also lets a single one go. */
export function disruptionBudget(name: string): string {
  return `\
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: { name: ${name} }
spec:
  maxUnavailable: 1
  selector: { matchLabels: { part: ${name} } }
`
}

/** Returns the manifest of the processes of a role. */
export function appDeployment(plan: Plan, role: Role): string {
  const { topology } = plan.deployment
  const name = nameOf[role]
  const range = role === 'both' ? undefined : topology.scaling[role]
  const port = ownPort(plan, role)
  const withEdge = plan.hasEdge && role !== 'worker'
  const { cpu } = topology.placement
  const graceSeconds = Math.ceil((preStopMs + plan.app.stopMs + marginMs) / 1_000)
  return `\
${marked()}
apiVersion: apps/v1
kind: Deployment
metadata: { name: ${name} }
spec:
  ${lines(
    2,
    !range && `replicas: ${topology.processes[role]}`,
    range && '# The autoscaler below decides how many there are.',
    'strategy: { rollingUpdate: { maxSurge: 1, maxUnavailable: 0 } }',
  )}
  selector: { matchLabels: { part: ${name} } }
  template:
    metadata:
      labels: { part: ${name} }
      annotations: { prometheus.io/scrape: "true", prometheus.io/path: /metrics, prometheus.io/port: "${port}" }
    spec:
      terminationGracePeriodSeconds: ${graceSeconds} # more than preStop, requests and jobs take together
      automountServiceAccountToken: false
      enableServiceLinks: false
      ${podSecurity(1000)}
      topologySpreadConstraints:
        - { topologyKey: topology.kubernetes.io/zone, maxSkew: 1, whenUnsatisfiable: ScheduleAnyway, labelSelector: { matchLabels: { part: ${name} } } }
        - { topologyKey: kubernetes.io/hostname, maxSkew: 1, whenUnsatisfiable: ScheduleAnyway, labelSelector: { matchLabels: { part: ${name} } } }
      ${lines(6, withEdge && edgeContainer(), 'containers:')}
        - name: app
          image: app
          ${lines(
            10,
            plan.app.file !== undefined && `args: ${flow(['start', literal(plan.app.file)])}`,
            'envFrom: [{ configMapRef: { name: app } }, { secretRef: { name: app } }]',
            environment(
              port !== appPort && `- { name: PORT, value: "${port}" }`,
              role !== 'both' && `- { name: RUNG_ROLE, value: ${role} }`,
              withEdge && `- { name: RUNG_EDGE_URL, value: "http://127.0.0.1:${edgePorts.admin}" }`,
              ...databaseAt(plan),
              plan.own.pooler &&
                `- { name: RUNG_POOLER_URL, value: "postgres://${appRole}:$(DATABASE_PASSWORD)@pooler:${poolerPort}" }`,
              plan.own.redis && '- { name: RUNG_REDIS_URL, value: "redis://:$(REDIS_PASSWORD)@redis:6379" }',
              ...eventSettings(topology.events, natsUrls(topology.events.nodes)).map(
                ([key, value]) => `- { name: ${key}, value: ${JSON.stringify(value)} }`,
              ),
            ),
          )}
          ports: [{ name: app, containerPort: ${port} }]
          startupProbe: { httpGet: { path: /healthz, port: app }, periodSeconds: 2, failureThreshold: 150 }
          # Whether the process answers, not whether its database does: a restart would not help that.
          livenessProbe: { httpGet: { path: /healthz, port: app }, periodSeconds: 10, timeoutSeconds: 5 }
          readinessProbe: { httpGet: { path: /readyz, port: app }, periodSeconds: 2, timeoutSeconds: 3, failureThreshold: 2 }
          lifecycle: { preStop: { sleep: { seconds: ${preStopMs / 1_000} } } } # until no balancer sends requests here
          resources: { requests: { cpu: ${cpu ?? 0.5}, memory: 256Mi }, limits: { ${cpu === undefined ? '' : `cpu: ${cpu}, `}memory: 512Mi } }
          ${hardened}
          volumeMounts: [{ name: tmp, mountPath: /tmp }]
      volumes:
        ${lines(
          8,
          '- { name: tmp, emptyDir: {} }',
          withEdge && '- { name: edge-tmp, emptyDir: {} }',
          withEdge && '- { name: edge, configMap: { name: edge } }',
        )}
---
${[role !== 'worker' && service(name), disruptionBudget(name), range && autoscaler(name, range)]
  .filter(Boolean)
  .join('---\n')}`
}

/** nginx, which is started before the process and ended after it. */
function edgeContainer(): string {
  return `\
initContainers:
  - name: edge # the page cache of this process, and its port for clients
    image: ${nginxPackages.dockerImage}
    restartPolicy: Always
    command: ${flow(edgeCommand)}
    env: [{ name: RUNG_EDGE_SECRET, valueFrom: { secretKeyRef: { name: app, key: RUNG_EDGE_SECRET } } }]
    ports: [{ name: http, containerPort: ${edgePorts.clients} }, { name: admin, containerPort: ${edgePorts.admin} }]
    startupProbe: { tcpSocket: { port: http }, periodSeconds: 1, failureThreshold: 30 }
    # nginx itself answers this, whatever the app does.
    livenessProbe: { httpGet: { path: /-/health, port: admin }, periodSeconds: 10, timeoutSeconds: 5 }
    resources: { requests: { cpu: 0.1, memory: 64Mi }, limits: { memory: 256Mi } }
    ${hardened}
    volumeMounts: [{ name: edge-tmp, mountPath: /tmp }, { name: edge, mountPath: /etc/edge }]`
}

function service(name: string): string {
  return `\
apiVersion: v1
kind: Service
metadata: { name: ${name} }
spec:
  selector: { part: ${name} }
  ports: [{ name: http, port: 80, targetPort: ${appPort} }]
`
}

function autoscaler(name: string, { least, most }: { least: number; most: number }): string {
  const { cpu, loop } = webPolicy.targets
  return `\
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: { name: ${name} }
spec:
  scaleTargetRef: { apiVersion: apps/v1, kind: Deployment, name: ${name} }
  minReplicas: ${least}
  maxReplicas: ${most}
  metrics:
    - type: ContainerResource
      containerResource: { name: cpu, container: app, target: { type: Utilization, averageUtilization: ${cpu * 100} } }
    # How busy the event loop is. prometheus-adapter offers it, with its default rules. Without it the number never falls.
    - type: Pods
      pods: { metric: { name: nodejs_eventloop_utilization }, target: { type: AverageValue, averageValue: ${loop * 1_000}m } }
`
}

/** Returns the Job that migrates before a new version is rolled out. */
export function migrateJob(plan: Plan): string {
  return `\
${marked()}
apiVersion: batch/v1
kind: Job
metadata: { name: migrate, labels: { part: migrate } }
spec:
  backoffLimit: 5
  template:
    metadata: { labels: { part: migrate } }
    spec:
      restartPolicy: Never
      automountServiceAccountToken: false
      enableServiceLinks: false
      ${podSecurity(1000)}
      containers:
        - name: migrate
          image: app
          args: ${flow(['migrate', ...(plan.app.file === undefined ? [] : [literal(plan.app.file)])])}
          ${lines(
            10,
            // The settings are a ConfigMap with a name of its own in each version, which is not there yet.
            !plan.own.postgres && 'envFrom: [{ secretRef: { name: app } }]',
            environment('- { name: RUNG_CONFIG, value: none }', ...databaseAt(plan)),
          )}
          resources: { requests: { cpu: 0.1, memory: 128Mi }, limits: { memory: 512Mi } }
          ${hardened}
          volumeMounts: [{ name: tmp, mountPath: /tmp }]
      volumes: [{ name: tmp, emptyDir: {} }]
`
}

function environment(...entries: readonly (string | false)[]): string {
  return lines(2, 'env:', ...entries)
}

/** Where the database is, if it is one of the cluster. Otherwise the Secret says it. */
function databaseAt({ own, servers: [primary, ...replicas] }: Plan): string[] {
  if (!own.postgres) return []
  const url = (host: string) => `postgres://${appRole}:$(DATABASE_PASSWORD)@${host}:5432/${appDatabase}`
  return [
    '- { name: DATABASE_PASSWORD, valueFrom: { secretKeyRef: { name: postgres-app, key: password } } } # made by CloudNativePG',
    `- { name: DATABASE_URL, value: "${url(primary!)}" }`,
    ...(replicas.length > 0 ? [`- { name: DATABASE_READ_URL, value: "${replicas.map(url).join(',')}" }`] : []),
  ]
}
