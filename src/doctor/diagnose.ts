import type { Sighting } from '../observe/sighting-table.ts'
import type { Facts } from './facts.ts'
import type { Finding, Severity } from './finding.ts'
import { indexHealth } from './index-health.ts'
import { missingIndexes } from './missing-indexes.ts'
import { serverHealth } from './server-health.ts'
import { seenByApp, slowStatements } from './statement-health.ts'
import { tableHealth } from './table-health.ts'
import { type Thresholds, thresholds } from './thresholds.ts'
import type { Verification } from './verify.ts'

/** Everything that is known: about the database, from the experiments, and from the app itself. */
export interface Evidence extends Facts {
  verification: Verification
  seen: readonly Sighting[]
}

const order: Severity[] = ['act', 'look', 'note']

/** From facts to findings, the most urgent first. Pure: the same facts give the same findings. */
export function diagnose(evidence: Evidence, limits: Thresholds = thresholds): Finding[] {
  const { verification, seen } = evidence
  const facts: Facts = { ...evidence, gaps: [...evidence.gaps, ...verification.gaps] }
  const helped = verification.trials.flatMap(({ experiment }) => experiment.statement?.id ?? [])
  const findings = [
    ...missingIndexes(facts, verification.trials),
    ...serverHealth(facts, limits),
    ...indexHealth(facts, limits),
    ...tableHealth(facts, limits),
    ...slowStatements(facts, verification.plans, new Set(helped), limits),
    ...seenByApp(seen, facts, verification.plans, limits),
  ]
  return findings.sort((a, b) => order.indexOf(a.severity) - order.indexOf(b.severity))
}
