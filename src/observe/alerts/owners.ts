import type { App } from '../../app/define-app.ts'
import { RungError } from '../../kernel/errors.ts'
import { labelsOf } from './expression.ts'
import { type Rule, rules } from './rules.ts'

/** A rule of an app: its thresholds, whom it concerns, and what to do. */
export interface OwnedRule extends Rule {
  /** Of the app. */
  readonly owner: string
  /** Whose it is instead where a label matches the whole pattern; the first one counts. */
  readonly owners: readonly {
    readonly label: string
    readonly pattern: string
    readonly owner: string
    readonly runbook: string
  }[]
  /** A command that shows the page, or the URL that the app names. */
  readonly runbook: string
}

/**
 * Returns the rules of an app: with its thresholds, without those that it mutes.
 * @throws APP_INVALID for a rule that does not exist, or a threshold on the wrong side of its end
 */
export function rulesOf({ name, modules, alerts }: Pick<App, 'name' | 'modules' | 'alerts'>): OwnedRule[] {
  const { owner = name, rules: changed = {}, runbooks = {} } = alerts
  const asked = [changed, runbooks, ...modules.map((module) => module.runbooks ?? {})].flatMap((one) =>
    Object.keys(one),
  )
  for (const one of asked) {
    if (rules.some((rule) => rule.name === one)) continue
    throw invalid(`There is no alert "${one}". See: rung alerts rules`)
  }
  return rules.flatMap((rule): OwnedRule[] => {
    const change = changed[rule.name] ?? {}
    if (change === 'off') return []
    const runbook = runbooks[rule.name] ?? `rung alerts runbook ${rule.name}`
    const labels = labelsOf(rule.value)
    const owners = modules.flatMap((module) => {
      const own = { owner: module.owner, runbook: module.runbooks?.[rule.name] ?? runbook }
      return [
        ...(labels.includes('module') ? [{ label: 'module', pattern: `^${module.name}$`, ...own }] : []),
        // Deliveries to a module's group, and jobs by their names: articles.send-digest.
        ...(labels.includes('queue') ? [{ label: 'queue', pattern: `^(event:)?${module.name}([.].*)?$`, ...own }] : []),
      ]
    })
    return [{ ...withThreshold(rule, change), owner, owners, runbook }]
  })
}

function withThreshold(rule: Rule, { threshold, end, forMinutes }: Exclude<RuleChange, 'off'>): Rule {
  const isAbove = rule.above !== undefined
  const begins = threshold ?? (isAbove ? rule.above! : rule.below!)
  // Where only the threshold is given, the distance stays as it was, in proportion.
  const ends =
    end ?? (threshold === undefined ? rule.end : (rule.end / (isAbove ? rule.above! : rule.below!)) * threshold)
  const changed = {
    ...rule,
    ...(isAbove ? { above: begins } : { below: begins }),
    end: Number.isNaN(ends) ? begins : ends,
    forMinutes: forMinutes ?? rule.forMinutes,
  }
  if ((isAbove && changed.end > begins) || (!isAbove && changed.end < begins)) {
    throw invalid(`The alert "${rule.name}" would end before it begins: threshold ${begins}, end ${ends}.`)
  }
  return changed
}

type RuleChange = NonNullable<App['alerts']['rules']>[string]

/** Returns who is responsible for an alert, and what to read. Pure. */
export function ownerOf(rule: OwnedRule, labels: Readonly<Record<string, string>>): { owner: string; runbook: string } {
  return rule.owners.find(({ label, pattern }) => new RegExp(pattern).test(labels[label] ?? '')) ?? rule
}

function invalid(message: string): RungError {
  return new RungError('APP_INVALID', message)
}
