import { plainText } from '../kernel/plain-text.ts'
import { type Figures, figureNames, problemIn } from './condition.ts'
import { spanOf } from './cost.ts'
import type { Finding } from './finding.ts'
import { dayText } from './trend.ts'

/** A decision as a file: what was decided, on which figures, and when to look at it again. */
export interface Decision {
  title: string
  /** `undefined`: it has none that a program can read. */
  revisitWhen?: string
  /** Why the one that it has cannot be read. */
  problem?: string
}

/** Returns the text of the file. Pure. @param others what was advised besides, as alternatives */
export function decisionText(
  number: number,
  { what, seen, rule, gain, cost, change, undo, revisitWhen, verdict }: Finding,
  { others, figures, today }: { others: readonly Finding[]; figures: Figures; today: number },
): string {
  const money = cost.money === null ? 'no price is known' : `${spanOf(cost.money)} a month`
  const alternatives = others.slice(0, 3).map((one) => `- ${one.what} ${one.gain}`)
  return `${[
    `# ${number}. ${titleOf(what)}`,
    `**Decided** on ${dayText(today)}, ${verdict === 'now' ? 'to be done' : 'not to do yet'}, as advised by \`rung advise\`.`,
    `**Context.** ${seen} ${rule}`,
    `**Choice.** That of the title. ${gain} It costs ${money} and ${daysOf(cost.days)} of work.`,
    ...(change === 'Nothing.'
      ? []
      : [['How:', '', '```', change, '```', '', 'To take it back:', '', '```', undo, '```'].join('\n')]),
    ['**Alternatives.**', '', ...(alternatives.length > 0 ? alternatives : ['- To change nothing.'])].join('\n'),
    [
      '**Figures.**',
      '',
      ...Object.entries(figures).map(
        ([name, value]) =>
          `- \`${name}\` ${Number(value.toPrecision(3))} (${figureNames[name as keyof typeof figureNames]})`,
      ),
    ].join('\n'),
    `**Revisit when** \`${revisitWhen}\``,
    '',
  ]
    .join('\n\n')
    .trimEnd()}\n`
}

/** The title of the decision that a finding becomes, without its number. Pure. */
export function titleOf(what: string): string {
  return what.replace(/\s+/g, ' ').replace(/\.$/, '')
}

/** `0.5–2 days` */
export function daysOf({ low, high }: { low: number; high: number }): string {
  return low === high ? `${low} ${low === 1 ? 'day' : 'days'}` : `${low}–${high} days`
}

/** Reads a decision back; also one that a person wrote, if its condition is in backquotes after "Revisit when". Pure. */
export function parseDecision(text: string): Decision {
  const title = plainText(/^#\s+(.+)$/m.exec(text)?.[1]?.trim() ?? '')
  const condition = /\*\*Revisit when:?\*\*:?\s*`([^`]+)`/.exec(text)?.[1]
  if (condition === undefined) return { title }
  const problem = problemIn(condition)
  return problem === undefined
    ? { title, revisitWhen: plainText(condition.replaceAll(/\s+/g, ' ')) }
    : { title, problem: plainText(`"${condition}" cannot be read: ${problem}`) }
}

/** Returns the name of its file. Pure. */
export function fileNameOf(number: number, what: string): string {
  const slug = what
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, '-')
    .replace(/^-|-$/g, '')
    .slice(0, 50)
    .replace(/-$/, '')
  return `${String(number).padStart(4, '0')}-${slug || 'decision'}.md`
}
