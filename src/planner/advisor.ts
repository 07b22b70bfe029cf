import { capacitySteps } from './advise-capacity.ts'
import { efficiencySteps } from './advise-efficiency.ts'
import { extractionSteps } from './advise-extraction.ts'
import type { Evidence } from './evidence.ts'
import type { Draft, Finding } from './finding.ts'
import { leadDays } from './forecast.ts'
import { type Pressure, pressureOf } from './pressure.ts'
import { dayText } from './trend.ts'

/** After so many days one sees whether a step has helped: the week before it has left the window then. A large step takes longer (`leadDays`). */
const smallDays = 14

export interface Advice {
  pressure: Pressure
  /** What to do comes first, then what not to do yet; each best first. */
  findings: readonly Finding[]
}

/**
 * Judges evidence. Pure: the same evidence has the same advice.
 *
 * What costs nothing but work (an index, a statement, a pool) is advised where it is seen. What costs money or adds parts is advised only under pressure:
 * little capacity is free, or the ceiling is nearer than a step takes. Of several steps the one that frees most for a day of work is first, and a large
 * one is "not yet" while small ones are enough.
 */
export function advise(evidence: Evidence): Advice {
  const pressure = pressureOf(evidence)
  const small = efficiencySteps(evidence, pressure)
  const large = capacitySteps(evidence, pressure, small)
  const after =
    (days: number) =>
    (draft: Draft): Finding => ({
      ...draft,
      revisitWhen: draft.revisitWhen ?? `day >= ${dayText(evidence.today + days)}`,
    })
  const all = [
    ...small.map(after(smallDays)),
    ...extractionSteps(evidence).map(after(smallDays)),
    ...large.map(after(leadDays.most)),
  ]
  const of = (verdict: Finding['verdict']) => all.filter((one) => one.verdict === verdict)
  const worth = ({ gainShare, cost: { days } }: Finding) => gainShare / (days.low + days.high + 0.1)
  return {
    pressure,
    findings: [...of('now').sort((a, b) => worth(b) - worth(a)), ...of('not yet')],
  }
}
