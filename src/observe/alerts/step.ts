import { evaluate, type Minute, minuteMs, type Vector } from './evaluate.ts'
import type { Rule } from './rules.ts'

/** A rule that holds for some labels. Times are ms since the epoch. */
export interface Alert {
  readonly rule: string
  /** As a key (`keyOf`): `{"queue":"mails.send"}`. */
  readonly labels: string
  /** `pending`: it has not held for long enough yet. */
  readonly state: 'pending' | 'firing'
  /** Since when it has held. */
  readonly since: number
  readonly firedAt?: number
  /** Since when it has not held any more, while it goes on. */
  readonly quietSince?: number
  /** The last one that is known. */
  readonly value: number
}

export interface Change {
  readonly kind: 'fires' | 'ends'
  readonly alert: Alert
}

/** Returns the values of a rule where its conditions (`only`) are met. Pure. */
export function valuesOf({ value, only = [] }: Rule, minutes: readonly Minute[], at: number): Vector {
  const conditions = only.map((one) => ({ ...one, values: evaluate(one.value, minutes, at) }))
  const isMet = (key: string) => conditions.every(({ values, above }) => (values.get(key) ?? 0) > above)
  return new Map([...evaluate(value, minutes, at)].filter(([key]) => isMet(key)))
}

/**
 * Returns 0 for the labels of which things were counted and none was of the kind that a share is of: what never happened is not recorded. It is what
 * people want to read; alerts look at `valuesOf`. Pure.
 */
export function noneIn({ value }: Rule, minutes: readonly Minute[], at: number): Vector {
  const none = new Map<string, number>()
  for (const share of 'least' in value ? value.least : [value]) {
    if (!('ratio' in share)) continue
    const [part, whole] = share.ratio
    if (!('metric' in part) || (part.take !== 'count' && part.take !== 'increase')) continue
    const counted = evaluate(part, minutes, at)
    for (const [key, all] of evaluate(whole, minutes, at)) if (all > 0 && !counted.has(key)) none.set(key, 0)
  }
  return none
}

/**
 * From the alerts of a rule to those of the next minute. As Prometheus does it, to the minute: `for` counts from the first minute in which the rule
 * holds, and what fires goes on until the value is beyond `end` and, if it stays there, for `keepMinutes` more. Pure.
 *
 * ```
 *             holds              holds for forMinutes
 *   (none) ──────────▶ pending ─────────────────────▶ firing ◀──┐ holds, by the threshold `end`
 *      ▲  ◀────────────   │                             │   └────┘
 *      │   does not hold                                │
 *      └────────────────────────────────────────────────┘ has not held for keepMinutes
 * ```
 */
export function step(rule: Rule, known: readonly Alert[], values: Vector, at: number) {
  const before = new Map(known.map((alert) => [alert.labels, alert]))
  const alerts: Alert[] = []
  const changes: Change[] = []
  for (const labels of new Set([...before.keys(), ...values.keys()])) {
    const old = before.get(labels)
    const value = values.get(labels)
    if (value !== undefined && holds(rule, value, old?.state === 'firing')) {
      const since = old?.since ?? at
      if (old?.state === 'firing') alerts.push(withoutQuiet({ ...old, value }))
      else if (at - since >= rule.forMinutes * minuteMs) {
        const alert: Alert = { rule: rule.name, labels, state: 'firing', since, firedAt: at, value }
        alerts.push(alert)
        changes.push({ kind: 'fires', alert })
      } else alerts.push({ rule: rule.name, labels, state: 'pending', since, value })
    } else if (old?.state === 'firing') {
      const alert = { ...old, value: value ?? old.value, quietSince: old.quietSince ?? at }
      if (at - alert.quietSince < rule.keepMinutes * minuteMs) alerts.push(alert)
      else changes.push({ kind: 'ends', alert })
    }
  }
  return { alerts, changes }
}

function withoutQuiet({ quietSince: _, ...alert }: Alert): Alert {
  return alert
}

function holds({ above, below, end }: Rule, value: number, isFiring: boolean): boolean {
  if (above !== undefined) return value > (isFiring ? end : above)
  return value < (isFiring ? end : below!)
}
