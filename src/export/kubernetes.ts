import { cookieNames } from '../primitives/positions/positions.ts'
import { edgeFiles, natsFile, poolerConfig, redisFile } from './engine-files.ts'
import { commonSettings, namedProxies, secretNames } from './environment.ts'
import { type Exported, type Files, ignoring, inFolder, lines, marked, scalar } from './files.ts'
import { appDeployment, migrateJob, type Plan, scalingOf } from './kubernetes-app.ts'
import {
  instanceServices,
  natsManifest,
  poolerManifest,
  postgresManifest,
  redisManifest,
} from './kubernetes-engines.ts'
import { networkPolicies } from './kubernetes-network.ts'

/** Networks from which a cluster's own proxies come, if nobody has named them. */
const privateNetworks = ['10.0.0.0/8', '172.16.0.0/12', '192.168.0.0/16', '100.64.0.0/10'] as const

/**
 * Returns plain manifests for Kubernetes 1.33 or newer, below a kustomization that is its owner's once it is written. Pure. What Rung does
 * on one machine and the platform does here is left out: the balancer is a Service, the failover CloudNativePG's.
 */
export function kubernetesFiles(given: Exported): Files {
  const exported = { ...given, deployment: { ...given.deployment, topology: scalingOf(given.deployment.topology) } }
  const { topology } = exported.deployment
  const { processes, data, cache, events } = topology
  const hasEdge = topology.edge.engine === 'nginx'
  const isOwn = data.engine === 'embedded'
  const plan: Plan = {
    ...exported,
    own: {
      postgres: isOwn,
      pooler: isOwn && data.pooler === 'pgbouncer',
      redis: cache.engine === 'redis',
      nats: events.engine === 'jetstream',
    },
    hasEdge,
    servers: ['postgres-rw', ...(data.replicas === 0 ? [] : instanceServices(1 + data.replicas))],
  }
  const { own } = plan
  const named = namedProxies(exported)
  const proxies = named.length > 0 ? named : privateNetworks

  const manifests: Files = {
    ...(own.postgres && { 'postgres.yaml': postgresManifest(plan) }),
    ...(own.redis && { 'redis.yaml': redisManifest() }),
    ...(own.nats && { 'nats.yaml': natsManifest(plan) }),
    ...(own.pooler && { 'pooler.yaml': poolerManifest() }),
    'migrate.yaml': migrateJob(plan),
    ...(processes.both > 0 && { 'app.yaml': appDeployment(plan, 'both') }),
    ...(processes.web > 0 && { 'web.yaml': appDeployment(plan, 'web') }),
    ...(processes.worker > 0 && { 'worker.yaml': appDeployment(plan, 'worker') }),
    'network.yaml': networkPolicies(plan),
  }
  // One page cache beside each web process: what a client has written it finds there at once, but not in those of other processes. So
  // one that has just written reads past them.
  const edge = edgeFiles(exported, {
    upstreams: ['127.0.0.1:3001'],
    adminHost: '0.0.0.0', // for its probe; purges need the secret, and no rule lets anybody else in
    proxies,
    sessionCookies: [cookieNames.wrote],
  })
  const configs: Files = {
    ...(own.redis && { 'redis.conf': redisFile() }),
    ...(own.nats && { 'nats.conf': natsFile(exported) }),
    ...(own.pooler && { 'pgbouncer.ini': poolerConfig(exported, plan.servers) }),
    ...(hasEdge && inFolder('edge', edge)),
  }
  return {
    'kustomization.yaml': overlay(exported.app.name, processes.worker > 0),
    'secret.env.example': secretExample(),
    ...ignoring('secret.env'),
    ...inFolder('base', { 'kustomization.yaml': kustomization(), ...manifests, ...configs }),
    ...(processes.worker > 0 && { 'spot/kustomization.yaml': spotComponent }),
  }

  function kustomization(): string {
    const settings = Object.entries(commonSettings(exported.settings, hasEdge ? ['127.0.0.1'] : proxies))
    const filesOf = (name: string, isUsed: boolean, files: readonly string[]) =>
      isUsed && `- name: ${name}\n  files:\n${files.map((file) => `    - ${file}`).join('\n')}`
    return `\
${marked()}
apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
namespace: ${exported.app.name}
resources:
  ${lines(2, ...Object.keys(manifests).map((name) => `- ${name}`))}
configMapGenerator:
  - name: app
    literals:
      ${lines(6, ...settings.map(([name, value]) => `- ${scalar(`${name}=${value}`)}`))}
  ${lines(
    2,
    filesOf(
      'edge',
      hasEdge,
      Object.keys(configs).filter((name) => name.startsWith('edge/')),
    ),
    filesOf('redis', own.redis, ['redis.conf']),
    filesOf('nats', own.nats, ['nats.conf']),
    filesOf('pooler', own.pooler, ['pgbouncer.ini']),
  )}
`.replace(/\n +\n$/, '\n')
  }

  function secretExample(): string {
    const names = [
      'RUNG_SECRET',
      ...secretNames(exported.settings),
      ...(own.postgres ? [] : ['DATABASE_URL', ...(data.replicas > 0 ? ['DATABASE_READ_URL'] : [])]),
      ...(own.redis ? ['REDIS_PASSWORD'] : []),
      ...(cache.engine === 'external' ? ['RUNG_REDIS_URL'] : []),
      ...(own.nats ? ['NATS_PASSWORD'] : []),
      ...(events.engine === 'external' ? ['RUNG_NATS_URL'] : []),
      ...(hasEdge ? ['RUNG_EDGE_SECRET'] : []),
    ]
    return `\
${marked()}
# Copy this to secret.env, fill it in, and never commit it. Make each secret with: openssl rand -hex 32
# kubectl --namespace ${exported.app.name} create secret generic app --from-env-file=secret.env
${names.map((name) => `${name}=\n`).join('')}`
  }
}

/** What its owner changes. It has no mark, so a further export leaves it as it is. */
const overlay = (name: string, hasWorkers: boolean) => `\
# Written once. From then on it is yours: the version, and what is to differ from base, which each export writes again.
apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
resources: [base]
images:
  - name: app # kustomize edit set image app=registry.example.org/${name}:1
    newName: registry.example.org/${name}
    newTag: latest
${hasWorkers ? '# components: [spot] # workers on spot nodes, where there are any\n' : ''}\
# patches: []
`

/** Workers hand their jobs back when they are stopped, so a node that may be taken away at any time does for them. */
const spotComponent = `\
${marked()}
# Workers on spot nodes where there are any: a component of the kustomization above.
apiVersion: kustomize.config.k8s.io/v1alpha1
kind: Component
patches:
  - target: { kind: Deployment, name: worker }
    patch: |-
      apiVersion: apps/v1
      kind: Deployment
      metadata: { name: worker }
      spec:
        template:
          spec:
            tolerations:
              - { key: cloud.google.com/gke-spot, operator: Exists } # Google
              - { key: kubernetes.azure.com/scalesetpriority, operator: Exists } # Azure
              - { key: karpenter.sh/capacity-type, value: spot } # Karpenter, if its nodes have this taint
            affinity:
              nodeAffinity:
                preferredDuringSchedulingIgnoredDuringExecution:
                  - { weight: 100, preference: { matchExpressions: [{ key: cloud.google.com/gke-spot, operator: In, values: ["true"] }] } }
                  - { weight: 100, preference: { matchExpressions: [{ key: kubernetes.azure.com/scalesetpriority, operator: In, values: [spot] }] } }
                  - { weight: 100, preference: { matchExpressions: [{ key: karpenter.sh/capacity-type, operator: In, values: [spot] }] } }
`
