import { uuid } from '../../kernel/random.ts'
import { formatMs } from '../../kernel/units.ts'
import type { AlertMessage } from '../../runtime/alerts.ts'
import { unbounded } from '../record/snapshot.ts'
import { type OwnedRule, ownerOf } from './owners.ts'
import type { Rule } from './rules.ts'
import type { Alert, Change } from './step.ts'

/** Returns a value for people: `93.0 %`, `5m`, `12`, `2.4 times`. Pure. */
export function valueText({ unit }: Pick<Rule, 'unit'>, value: number): string {
  if (unit === 'share') return `${(100 * value).toFixed(1)} %`
  if (unit === 'count') return String(Math.round(value))
  if (unit === 'times') return `${value.toFixed(1)} times`
  if (value >= unbounded) return 'unknown'
  if (Math.abs(value) >= 2 * daySeconds) return `${(value / daySeconds).toFixed(1)} days`
  return value < 0 ? `-${formatMs(-1000 * value)}` : formatMs(1000 * value)
}

const daySeconds = 86_400

/** Returns the labels of an alert in one line: `main read`. Pure. */
export function labelsText({ labels }: Pick<Alert, 'labels'>): string {
  return Object.values(JSON.parse(labels) as Record<string, string>).join(' ')
}

/** Returns an alert's name with what it concerns: `pool-used (main read)`. Pure. */
export function titleOf(alert: Pick<Alert, 'rule' | 'labels'>): string {
  const concerns = labelsText(alert)
  return concerns === '' ? alert.rule : `${alert.rule} (${concerns})`
}

/**
 * Returns one message for all that began or ended in one minute, which names each of them. Pure.
 * @param at the minute, ms since the epoch
 */
export function messageOf(
  app: string,
  at: number,
  changes: readonly (Change & { rule: OwnedRule; incident?: number | undefined })[],
): AlertMessage {
  const minute = new Date(at).toISOString().slice(0, 16)
  const fires = changes.filter(({ kind }) => kind === 'fires')
  const ends = changes.filter(({ kind }) => kind === 'ends')
  const named = (some: typeof changes) => some.map(({ alert }) => titleOf(alert)).join(', ')
  const parts = [
    ...(fires.length > 0 ? [`fires: ${named(fires)}`] : []),
    ...(ends.length > 0 ? [`ended: ${named(ends)}`] : []),
  ]
  const subject = `${app}: ${parts.join('; ')}`
  return {
    key: `${app}/${minute}/${uuid()}`, // another app of this name may post to the same place
    subject: subject.length <= 200 ? subject : `${subject.slice(0, 199)}…`,
    text: [...fires, ...ends].map((change) => lineOf(app, change)).join('\n\n'),
  }
}

function lineOf(app: string, change: Change & { rule: OwnedRule; incident?: number | undefined }): string {
  const { kind, alert, rule, incident } = change
  if (kind === 'ends') {
    const lasted = formatMs(alert.quietSince! - alert.firedAt!)
    return `${app}: ${titleOf(alert)} has ended, after ${lasted}.`
  }
  const { owner, runbook } = ownerOf(rule, JSON.parse(alert.labels))
  return [
    `${app}: ${titleOf(alert)} fires [${rule.severity}]`,
    `${rule.summary}: ${valueText(rule, alert.value)}, since ${new Date(alert.since).toISOString().slice(0, 16)}Z.`,
    `Owner: ${owner}. Runbook: ${runbook}`,
    ...(incident === undefined ? [] : [`Incident ${incident}: rung incidents show ${incident}`]),
  ].join('\n')
}
