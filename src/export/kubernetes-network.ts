import { natsPorts } from '../engines/nats/recipe.ts'
import { poolerPort } from '../engines/pgbouncer/recipe.ts'
import type { Role } from '../topology/topology.ts'
import { appPort } from './environment.ts'
import { marked } from './files.ts'
import { nameOf, ownPort, type Plan } from './kubernetes-app.ts'

/** Where Prometheus and CloudNativePG usually run. */
const monitoring = '- namespaceSelector: { matchLabels: { kubernetes.io/metadata.name: monitoring } }'
const operator = '- namespaceSelector: { matchLabels: { kubernetes.io/metadata.name: cnpg-system } }'

/** Returns who reaches what in the namespace. What goes out is not limited: the app calls others. */
export function networkPolicies(plan: Plan): string {
  const { processes } = plan.deployment.topology
  const roles = (['both', 'web', 'worker'] as const).filter((role) => processes[role] > 0)
  const apps = roles.map((role) => nameOf[role])
  const { own } = plan
  return [
    `\
${marked()}
# Nothing reaches a pod of this namespace unless a rule says so. What goes out is not limited.
${policy('default', '{}', [])}`,
    ...roles.map((role) => policy(nameOf[role], part(nameOf[role]), appRules(plan, role))),
    own.redis && policy('redis', part('redis'), [rule(apps.map(fromPart), [6379])]),
    own.nats &&
      policy('nats', part('nats'), [
        rule(apps.map(fromPart), [natsPorts.clients]),
        rule([fromPart('nats')], [natsPorts.routes]),
      ]),
    own.pooler && policy('pooler', part('pooler'), [rule(apps.map(fromPart), [poolerPort])]),
    own.postgres &&
      policy('postgres', '{ matchLabels: { cnpg.io/cluster: postgres } }', [
        rule([...apps, 'migrate', ...(own.pooler ? ['pooler'] : [])].map(fromPart), [5432]),
        rule(['- podSelector: { matchLabels: { cnpg.io/cluster: postgres } }'], [5432, 8000]),
        rule([operator], [5432, 8000]),
        rule([monitoring], [9187]),
      ]),
  ]
    .filter((text) => typeof text === 'string')
    .join('---\n')
}

/** Clients, by whatever the cluster lets in, and figures. Probes come from the node, and are let in always. */
function appRules(plan: Plan, role: Role): string[] {
  return [
    ...(role === 'worker' ? [] : [rule([], [appPort])]),
    ...(role !== 'worker' && ownPort(plan, role) === appPort ? [] : [rule([monitoring], [ownPort(plan, role)])]),
  ]
}

const part = (name: string) => `{ matchLabels: { part: ${name} } }`
const fromPart = (name: string) => `- podSelector: ${part(name)}`

/** Without `from` everybody is let in. */
function rule(from: readonly string[], ports: readonly number[]): string {
  const listed = `ports: [${ports.map((port) => `{ port: ${port} }`).join(', ')}]`
  if (from.length === 0) return `- ${listed}`
  return `- from:\n${from.map((one) => `    ${one}`).join('\n')}\n  ${listed}`
}

function policy(name: string, pods: string, rules: readonly string[]): string {
  return `\
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: { name: ${name} }
spec:
  podSelector: ${pods}
  policyTypes: [Ingress]
${rules.length === 0 ? '' : `  ingress:\n${rules.join('\n').replace(/^/gm, '    ')}\n`}`
}
