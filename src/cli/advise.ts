import { mkdir, readdir, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { RungError } from '../kernel/errors.ts'
import { advise } from '../planner/advisor.ts'
import { spanOf } from '../planner/cost.ts'
import { daysOf, decisionText, fileNameOf, titleOf } from '../planner/decision.ts'
import { figuresOf } from '../planner/evidence.ts'
import { type Finding, kinds } from '../planner/finding.ts'
import { percent } from '../planner/words.ts'
import { adrDir, checkedDecisions, numberedIn } from './adr.ts'
import { type Command, hanging, numberOption, result } from './command.ts'
import { evidenceOfApp, evidenceOptions } from './evidence-of-app.ts'

const command: Command = {
  name: 'advise',
  summary: 'say what to do next, best first, or that it is not yet time',
  usage: 'rung advise [app-file] [options]',
  wordsMax: 1,
  help: [
    'Judges the record, the load test if there was one, what "rung doctor" finds, what runs and',
    'what steps cost: an index, a statement, a cached route, a pool, a larger machine, a replica,',
    'a rung. Each finding has what was seen, the rule, the gain, the cost in money and days, the',
    'exact change, how to undo it, and when to look again.',
    '',
    '"Not yet" is an answer. What costs money is advised only when little capacity is free, or',
    'when the ceiling is nearer than a step takes; how many users there are decides nothing.',
    '',
    '--accept writes a finding as a decision into docs/adr, under the next free number, with a',
    'condition for when to look again. "rung adr" checks these conditions.',
    '',
    'The guide: docs/guides/advise.md.',
  ].join('\n'),
  settings: ['rung', 'data', 'prometheus', 'process.dataDir'],
  examples: ['rung advise', 'rung advise --team 4 --list hetzner --prices prices.json', 'rung advise --accept 1'],
  options: {
    team: {
      type: 'string',
      value: 'number',
      help: 'People who work on the app; scaling may take 20 to 30 % of their time (3).',
    },
    accept: { type: 'string', value: 'number', help: 'Write this finding as a decision into docs/adr.' },
    ...evidenceOptions,
  },
  async run(input) {
    const { cwd, out, values } = input
    const team = numberOption(input, 'team', { max: 1_000, otherwise: 3 })
    const { evidence, problems } = await evidenceOfApp(input, input.positionals[0])
    const { pressure, findings } = advise(evidence)
    const figures = figuresOf(evidence)
    const decisions = await checkedDecisions(cwd, figures, evidence.today)
    /** One that is due may be decided anew. */
    const decidedIn = ({ what }: Finding) =>
      decisions.find((one) => !one.isDue && one.title.replace(/^\d+\.\s*/, '') === titleOf(what))
    let file: string | null = null
    if (values.accept !== undefined) {
      const chosen = findings[numberOption(input, 'accept', { max: 1_000, otherwise: 1 }) - 1]
      if (!chosen)
        throw new RungError(
          'COMMAND_INVALID',
          `There are ${findings.length} findings, so --accept must be from 1 to ${findings.length}.`,
        )
      const known = decidedIn(chosen)
      if (known)
        throw new RungError(
          'COMMAND_INVALID',
          `This is decision ${known.number} already, in ${known.file}. "rung adr" says when it is due.`,
        )
      const others = findings.filter((one) => one !== chosen)
      file = await keepDecision(cwd, chosen, { others, figures, today: evidence.today })
    }
    const view = {
      isDue: pressure.isDue,
      why: pressure.why,
      findings: findings.map(({ gainShare: _, relief: __, ...one }, index) => ({
        ...{ number: index + 1, ...one },
        decided: decidedIn(findings[index]!)?.file ?? null,
      })),
      figures,
      problems,
      file: file === null ? null : path.relative(cwd, file),
    }
    return result(view, () => {
      if (view.file !== null) {
        const { what } = findings[Number(values.accept) - 1]!
        for (const line of hanging('', `Wrote ${view.file}: ${what}`)) out.line(line)
        out.line('"rung adr" says when it is time to look at it again.')
        return
      }
      for (const line of linesOf(view.findings, team)) out.line(line)
      for (const problem of problems) for (const line of ['', ...hanging('', problem)]) out.line(line)
    })
  },
}
export default command

/** Scaling may take 20 to 30 % of a team's time; a month has 21 days of work. */
const shareOfTeam = { low: 0.2, high: 0.3 }
const daysAMonth = 21

type Shown = Omit<Finding, 'gainShare' | 'relief'> & { number: number; decided: string | null }

function linesOf(findings: readonly Shown[], team: number): string[] {
  const now = findings.filter(({ verdict }) => verdict === 'now').length
  const head =
    now === 0
      ? 'Not yet: there is nothing to do now.'
      : `${now === 1 ? 'One thing' : `${now} things`} to do now, best first.`
  return [head, ...findings.flatMap((one) => ['', ...findingLines(one, team)])]
}

function findingLines(one: Shown, team: number): string[] {
  const { number, decided, verdict, kind, what, seen, rule, gain, cost, change, undo, revisitWhen } = one
  const row = (name: string, text: string) => hanging(`    ${name.padEnd(8)}`, text)
  const code = (name: string, text: string) =>
    text.includes('\n') ? [`    ${name}`, ...text.split('\n').map((line) => `      ${line}`)] : row(name, text)
  const [least, most] = [shareOfTeam.low, shareOfTeam.high].map((share) => Math.round(share * daysAMonth * team))
  const share = percent(cost.days.high / ((least! + most!) / 2))
  const work =
    cost.days.high === 0
      ? 'no work'
      : `${daysOf(cost.days)} of work, at most ${share} of the ${least}–${most} days that scaling may take a team of ${team} in a month`
  const money =
    cost.money === null ? 'a price is missing' : cost.money.high === 0 ? 'no money' : `${spanOf(cost.money)} a month`
  return [
    ...hanging(`${String(number).padStart(2)}. `, `${verdict === 'now' ? 'Now' : 'Not yet'} (${kinds[kind]}): ${what}`),
    ...row('seen', seen),
    ...row('rule', rule),
    ...row('gain', gain),
    ...row('cost', `${money}; ${work}.`),
    ...(change === 'Nothing.' ? [] : [...code('change', change), ...code('undo', undo)]),
    ...row('again', `when ${revisitWhen}`),
    ...(decided === null ? [] : row('decided', decided)),
  ]
}

/** Writes a decision under the next free number; a file that appears meanwhile is never overwritten. @returns its path */
async function keepDecision(
  cwd: string,
  finding: Finding,
  context: Parameters<typeof decisionText>[2],
): Promise<string> {
  const dir = adrDir(cwd)
  await mkdir(dir, { recursive: true })
  for (let number = Math.max(0, ...numberedIn(await readdir(dir)).map((one) => one.number)) + 1; ; number += 1) {
    const file = path.join(dir, fileNameOf(number, finding.what))
    try {
      await writeFile(file, decisionText(number, finding, context), { flag: 'wx' })
      return file
    } catch (error) {
      if ((error as { code?: string }).code !== 'EEXIST') throw error
    }
  }
}
