import type { OwnedRule } from '../observe/alerts/owners.ts'
import { alertmanagerRoutes, prometheusRules } from '../observe/alerts/prometheus.ts'
import { type Files, marked } from './files.ts'

/** Returns the rules of alerts for a Prometheus that scrapes the app, and routes to their owners for its Alertmanager. Pure. */
export function alertFiles(rules: readonly OwnedRule[]): Files {
  const owners = rules.flatMap(({ owner, owners }) => [owner, ...owners.map((one) => one.owner)])
  const left = rules.filter(({ recordOnly }) => recordOnly).map(({ name }) => name)
  return {
    'rung.rules.yaml': `${marked()}\n# Not here, as only the record has what it looks at: ${left.join(', ')}\n${prometheusRules(rules)}`,
    'alertmanager.yaml': `${marked()}\n${alertmanagerRoutes([...new Set(owners)])}`,
  }
}
