import type { OwnedRule } from '../observe/alerts/owners.ts'
import { labelList, promqlOf } from '../observe/alerts/promql.ts'
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

/** Returns rules of Prometheus 2.42 and newer, as YAML. Pure. */
export function prometheusRules(rules: readonly OwnedRule[]): string {
  const there = rules.filter(({ recordOnly }) => !recordOnly)
  return [
    'groups:',
    '  - name: rung',
    '    interval: 1m',
    '    rules:',
    ...there.flatMap((rule) => recorded(rule)),
    ...there.flatMap((rule) => alerting(rule)),
    '',
  ].join('\n')
}

/** The value of a rule is a series of its own, which both thresholds look at. */
function seriesOf({ name }: OwnedRule): string {
  return `rung_alert:${name.replaceAll('-', '_')}`
}

function recorded(rule: OwnedRule): string[] {
  const conditions = (rule.only ?? []).map(
    ({ value, above }) => ` and on (${labelList(rule.value)}) (${promqlOf(value)} > ${above})`,
  )
  return [`      - record: ${seriesOf(rule)}`, `        expr: ${quoted(promqlOf(rule.value) + conditions.join(''))}`]
}

function alerting(rule: OwnedRule): string[] {
  const [sign, threshold] = rule.above === undefined ? ['<', rule.below!] : ['>', rule.above]
  const series = seriesOf(rule)
  const fires = `ALERTS{alertname="${rule.name}",alertstate="firing"}`
  const goesOn = `(${series} ${sign} ${rule.end} and on (${labelList(rule.value)}) ${fires})`
  return [
    `      - alert: ${rule.name}`,
    `        expr: ${quoted(`${series} ${sign} ${threshold} or ${goesOn}`)}`,
    ...(rule.forMinutes > 0 ? [`        for: ${rule.forMinutes}m`] : []),
    ...(rule.keepMinutes > 0 ? [`        keep_firing_for: ${rule.keepMinutes}m`] : []),
    `        labels: { severity: ${rule.severity}, owner: ${quoted(templateOf(rule, 'owner'))} }`,
    '        annotations:',
    `          summary: ${quoted(rule.summary)}`,
    `          runbook: ${quoted(templateOf(rule, 'runbook'))}`,
  ]
}

/** Where a series has a module, or a queue that belongs to one, it is that of the module. */
function templateOf(rule: OwnedRule, what: 'owner' | 'runbook'): string {
  const others = rule.owners.filter((one) => one[what] !== rule[what])
  if (others.length === 0) return literal(rule[what])
  const terms = others.map(
    (one) => `if match ${JSON.stringify(one.pattern)} $labels.${one.label} }}${literal(one[what])}{{ `,
  )
  return `{{ ${terms.join('else ')}else }}${literal(rule[what])}{{ end }}`
}

/** What a template of Go must not read. */
function literal(text: string): string {
  return text.replaceAll('{{', '{{ "{{" }}')
}

/** A JSON string is one of YAML too. */
function quoted(text: string): string {
  return JSON.stringify(text)
}

/**
 * Returns the configuration of an Alertmanager that tells each owner of their alerts, by a webhook that Slack understands: one message for each alert
 * and one when it has ended. Pure.
 * @param owners each once, that of the app first
 */
export function alertmanagerRoutes(owners: readonly string[]): string {
  const [own] = owners
  return [
    'route:',
    `  receiver: ${quoted(own!)}`,
    '  group_by: ["..."]',
    '  group_wait: 10s',
    '  group_interval: 1m',
    '  repeat_interval: 1y # one message is enough',
    '  routes:',
    ...owners.map(
      (owner) => `    - { receiver: ${quoted(owner)}, matchers: [${quoted(`owner=${JSON.stringify(owner)}`)}] }`,
    ),
    'receivers:',
    ...owners.flatMap((owner) => [
      `  - name: ${quoted(owner)}`,
      '    slack_configs:',
      '      - api_url_file: /etc/alertmanager/webhook # the URL is a secret: mount it there',
      '        send_resolved: true',
      '        title: "{{ .Status }}: {{ .CommonLabels.alertname }} ({{ .CommonLabels.severity }})"',
      '        text: "{{ .CommonAnnotations.summary }}. {{ .CommonAnnotations.runbook }}"',
    ]),
    '',
  ].join('\n')
}
