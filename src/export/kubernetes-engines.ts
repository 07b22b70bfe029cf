import { natsArgs, natsPackages, natsPorts } from '../engines/nats/recipe.ts'
import { pgbouncerPackages, poolerPort } from '../engines/pgbouncer/recipe.ts'
import { appDatabase, appRole, postgresVersion } from '../engines/postgres/recipe.ts'
import { redisPackages } from '../engines/redis/recipe.ts'
import { poolerConnections } from '../topology/topology.ts'
import { memoryMib, postgresSettings } from './engine-files.ts'
import { flow, lines, marked, scalar } from './files.ts'
import { disruptionBudget, hardened, type Plan, podSecurity } from './kubernetes-app.ts'

/** What CloudNativePG sets itself, or refuses. */
const operators =
  /^(superuser_reserved_connections|wal_level|shared_preload_libraries|log_.*|timezone|lc_messages|wal_keep_size|wal_receiver_.*|wal_retrieve_.*|recovery_.*|idle_replication_slot_timeout)$/

/** Two poolers, each with connections of its own: one may be taken away. */
const poolers = 2

/** Returns the manifest of the database, which CloudNativePG runs. It needs CloudNativePG 1.28 or newer, for Postgres 18. */
export function postgresManifest(plan: Plan): string {
  const { topology } = plan.deployment
  const { replicas } = topology.data
  const all = postgresSettings(plan)
  const pooled = Object.values(poolerConnections(topology)).reduce((sum, count) => sum + count)
  const connections = Number(all.max_connections) + (plan.own.pooler ? (poolers - 1) * pooled : 0)
  const parameters = Object.entries({
    ...all,
    // The primary has an address of its own besides that of its server. After a failover both may be in use for a minute.
    max_connections: String(replicas > 0 ? 2 * connections : connections),
  }).filter(([name]) => !operators.test(name))
  return `\
${marked()}
apiVersion: postgresql.cnpg.io/v1 # CloudNativePG 1.28 or newer, for Postgres 18
kind: Cluster
metadata: { name: postgres }
spec:
  instances: ${1 + replicas}
  imageName: ghcr.io/cloudnative-pg/postgresql:${postgresVersion}-system-trixie
  bootstrap:
    initdb:
      database: ${appDatabase}
      owner: ${appRole}
      encoding: UTF8
      localeProvider: builtin
      builtinLocale: C.UTF-8
      postInitApplicationSQL:
        - grant pg_monitor to ${appRole}
        - create extension if not exists pg_stat_statements
  postgresql:
    ${lines(
      4,
      replicas > 0 &&
        'synchronous: { method: any, number: 1 } # a commit waits for one replica: a failover loses nothing',
      'parameters:',
      ...parameters.map(([name, value]) => `  ${name}: ${scalar(value)}`),
    )}
  storage: { size: 20Gi } # it can grow, never shrink
  ${lines(
    2,
    `resources: { requests: { cpu: 1, memory: ${memoryMib.postgres}Mi }, limits: { memory: ${memoryMib.postgres}Mi } }`,
    replicas > 0 &&
      'topologySpreadConstraints:\n  - { topologyKey: topology.kubernetes.io/zone, maxSkew: 1, whenUnsatisfiable: ScheduleAnyway, labelSelector: { matchLabels: { cnpg.io/cluster: postgres } } }',
  )}
${
  replicas === 0
    ? ''
    : instanceServices(1 + replicas)
        .map(instanceService)
        .join('')
}`
}

/** Returns the names of the Services that each lead to one server: `postgres-a`, `postgres-b` … */
export function instanceServices(count: number): string[] {
  return Array.from({ length: count }, (_, index) => `postgres-${String.fromCharCode(97 + index)}`)
}

/**
 * Each server needs an address of its own: the app asks each how far it is, and a Service over several answers now for one and now for
 * another. CloudNativePG never uses the number of a lost instance again, so the Service has another name, and is led to its successor.
 */
function instanceService(name: string, index: number): string {
  return `\
---
apiVersion: v1
kind: Service
metadata: { name: ${name} }
spec:
  selector: { cnpg.io/instanceName: postgres-${index + 1} }
  ports: [{ name: postgres, port: 5432 }]
`
}

/** Returns the manifest of Redis. It keeps nothing on a disk: what is in it can be made again. */
export function redisManifest(): string {
  return `\
${marked()}
apiVersion: apps/v1
kind: Deployment
metadata: { name: redis }
spec:
  replicas: 1
  strategy: { type: Recreate }
  selector: { matchLabels: { part: redis } }
  template:
    metadata: { labels: { part: redis } }
    spec:
      automountServiceAccountToken: false
      enableServiceLinks: false
      ${podSecurity(999)}
      containers:
        - name: redis
          image: ${redisPackages.dockerImage}
          command: ${flow(['redis-server', '/etc/redis/redis.conf', '--requirepass', '$(REDIS_PASSWORD)'])}
          env: [{ name: REDIS_PASSWORD, valueFrom: { secretKeyRef: { name: app, key: REDIS_PASSWORD } } }]
          ports: [{ name: redis, containerPort: 6379 }]
          readinessProbe: { tcpSocket: { port: redis }, periodSeconds: 2 }
          livenessProbe: { tcpSocket: { port: redis } }
          resources: { requests: { cpu: 0.1, memory: ${memoryMib.redis}Mi }, limits: { memory: ${2 * memoryMib.redis}Mi } }
          ${hardened}
          volumeMounts: [{ name: config, mountPath: /etc/redis }, { name: data, mountPath: /data }]
      volumes: [{ name: config, configMap: { name: redis } }, { name: data, emptyDir: {} }]
---
apiVersion: v1
kind: Service
metadata: { name: redis }
spec:
  selector: { part: redis }
  ports: [{ name: redis, port: 6379 }]
`
}

/** Returns the manifest of NATS. With three nodes each stores all events, and one may be away. */
export function natsManifest(plan: Plan): string {
  const { nodes } = plan.deployment.topology.events
  const routes = Array.from({ length: nodes }, (_, index) => `nats-${index}.nats:${natsPorts.routes}`)
  const args = natsArgs('/etc/nats/nats.conf', {
    ...{ name: '$(POD_NAME)', password: '$(NATS_PASSWORD)' },
    ...(nodes > 1 && { cluster: { port: natsPorts.routes, routes } }),
  })
  const gibibytes = Math.ceil((plan.settings.values.events.streamMib * 1.2) / 1_024)
  return `\
${marked()}
apiVersion: apps/v1
kind: StatefulSet
metadata: { name: nats }
spec:
  replicas: ${nodes}
  serviceName: nats
  podManagementPolicy: Parallel # nodes of a cluster need each other to be ready
  selector: { matchLabels: { part: nats } }
  template:
    metadata:
      labels: { part: nats }
    spec:
      automountServiceAccountToken: false
      enableServiceLinks: false
      ${podSecurity(1000).replace('runAsUser: 1000', 'runAsUser: 1000, fsGroup: 1000')}
      containers:
        - name: nats
          image: ${natsPackages.dockerImage}
          command: [nats-server]
          args: ${flow(args)}
          env:
            - { name: POD_NAME, valueFrom: { fieldRef: { fieldPath: metadata.name } } }
            - { name: NATS_PASSWORD, valueFrom: { secretKeyRef: { name: app, key: NATS_PASSWORD } } }
          ports: [{ name: nats, containerPort: ${natsPorts.clients} }, { name: routes, containerPort: ${natsPorts.routes} }]
          readinessProbe: { tcpSocket: { port: nats }, periodSeconds: 2 }
          livenessProbe: { tcpSocket: { port: nats } }
          resources: { requests: { cpu: 0.1, memory: 128Mi }, limits: { memory: 512Mi } }
          ${hardened}
          volumeMounts: [{ name: config, mountPath: /etc/nats }, { name: data, mountPath: /data }]
      volumes: [{ name: config, configMap: { name: nats } }]
      ${lines(
        6,
        nodes > 1 &&
          'topologySpreadConstraints:\n  - { topologyKey: topology.kubernetes.io/zone, maxSkew: 1, whenUnsatisfiable: ScheduleAnyway, labelSelector: { matchLabels: { part: nats } } }',
      )}
  volumeClaimTemplates:
    - metadata: { name: data }
      spec: { accessModes: [ReadWriteOnce], resources: { requests: { storage: ${gibibytes}Gi } } }
---
apiVersion: v1
kind: Service
metadata: { name: nats }
spec:
  clusterIP: None # each node has a name of its own
  publishNotReadyAddresses: true
  selector: { part: nats }
  ports: [{ name: nats, port: ${natsPorts.clients} }]
---
${disruptionBudget('nats')}`
}

/** Returns the manifest of PgBouncer. The one of CloudNativePG cannot have the pools that Rung needs: one for each server and target. */
export function poolerManifest(): string {
  return `\
${marked()}
apiVersion: apps/v1
kind: Deployment
metadata: { name: pooler }
spec:
  replicas: ${poolers} # Postgres allows as many connections as these need
  strategy: { rollingUpdate: { maxSurge: 0, maxUnavailable: 1 } }
  selector: { matchLabels: { part: pooler } }
  template:
    metadata: { labels: { part: pooler } }
    spec:
      automountServiceAccountToken: false
      enableServiceLinks: false
      ${podSecurity(70)}
      topologySpreadConstraints:
        - { topologyKey: kubernetes.io/hostname, maxSkew: 1, whenUnsatisfiable: ScheduleAnyway, labelSelector: { matchLabels: { part: pooler } } }
      containers:
        - name: pooler
          image: ${pgbouncerPackages.dockerImage}
          env:
            - { name: AUTH_TYPE, value: scram-sha-256 }
            - { name: DB_USER, value: ${appRole} }
            - { name: DB_PASSWORD, valueFrom: { secretKeyRef: { name: postgres-app, key: password } } }
          ports: [{ name: pooler, containerPort: ${poolerPort} }]
          readinessProbe: { tcpSocket: { port: pooler }, periodSeconds: 2 }
          livenessProbe: { tcpSocket: { port: pooler } }
          lifecycle: { preStop: { sleep: { seconds: 5 } } }
          resources: { requests: { cpu: 0.2, memory: 32Mi }, limits: { memory: 128Mi } }
          ${hardened}
          volumeMounts: # the image writes the password into a file beside its configuration
            - { name: work, mountPath: /etc/pgbouncer }
            - { name: config, mountPath: /etc/pgbouncer/pgbouncer.ini, subPath: pgbouncer.ini }
      volumes: [{ name: work, emptyDir: {} }, { name: config, configMap: { name: pooler } }]
---
apiVersion: v1
kind: Service
metadata: { name: pooler }
spec:
  selector: { part: pooler }
  ports: [{ name: pooler, port: ${poolerPort} }]
---
${disruptionBudget('pooler')}`
}
