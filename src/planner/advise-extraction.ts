import { type Evidence, hoursMin } from './evidence.ts'
import { judgeExtraction, type ModuleFacts } from './extraction.ts'
import type { Draft } from './finding.ts'
import { percent } from './words.ts'

/** Days of work. No source: to look what ties it to others, to extract, to watch. */
const days = { low: 0.5, high: 3 }
/** A selective step: the one or two modules that hurt the others. */
const modulesMax = 2

/** Modules that hurt the others: what is scarce, they take. Needs a balancer, which leads requests to their nodes. Pure. */
export function extractionSteps({ topology, window, modules }: Evidence): Draft[] {
  if (topology.balancer.engine === 'none' || window.hours < hoursMin) return []
  const apart = new Set(topology.groups.flatMap((group) => group.modules))
  const shareOf = ({ requests, work }: ModuleFacts) => Math.max(requests.share, work.share)
  return modules
    .filter(({ module }) => !apart.has(module))
    .flatMap((facts) => {
      const { isWorth, reasons } = judgeExtraction(facts)
      return isWorth ? [{ facts, seen: reasons.join(' ') }] : []
    })
    .sort((a, b) => shareOf(b.facts) - shareOf(a.facts))
    .slice(0, modulesMax)
    .map(({ facts, seen }) => ({
      kind: 'group',
      verdict: 'now',
      what: `Give "${facts.module}" processes of its own.`,
      seen,
      rule: 'It keeps the others waiting for what is scarce. More processes of all would share it with them again; its own do not.',
      gain: `The others no longer wait for up to ${percent(shareOf(facts))} of that.`,
      cost: { money: null, days },
      change: `rung extract ${facts.module} --dry-run, then without --dry-run`,
      undo: `rung extract ${facts.module} --undo`,
      gainShare: shareOf(facts),
    }))
}
