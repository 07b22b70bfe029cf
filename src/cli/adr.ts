import { readdir, readFile, stat } from 'node:fs/promises'
import path from 'node:path'
import { plainText } from '../kernel/plain-text.ts'
import { checkCondition, type Figures, parseCondition } from '../planner/condition.ts'
import { parseDecision } from '../planner/decision.ts'
import { figuresOf } from '../planner/evidence.ts'
import { type Command, hanging, result } from './command.ts'
import { evidenceOfApp, evidenceOptions } from './evidence-of-app.ts'

/** Where decisions are kept, in the user's repository. */
export const adrDir = (cwd: string) => path.join(cwd, 'docs', 'adr')

/** Returns the files that are decisions, by their numbers. Pure. */
export function numberedIn(names: readonly string[]): { number: number; name: string }[] {
  return names
    .flatMap((name) => {
      const digits = /^(\d+)-.*\.md$/.exec(name)?.[1]
      return digits === undefined ? [] : [{ number: Number(digits), name }]
    })
    .sort((a, b) => a.number - b.number)
}

const command: Command = {
  name: 'adr',
  summary: 'list decisions, and say which of them it is time to look at again',
  usage: 'rung adr [app-file] [options]',
  wordsMax: 1,
  help: [
    'Lists the decisions in docs/adr: those that "rung advise --accept" wrote, and yours. One that',
    'ends with a condition is checked against what "rung advise" would judge today:',
    '',
    '  **Revisit when** `headroom < 0.4 or day >= 2027-03-01`',
    '',
    'Figures that a condition may name are listed in docs/guides/advise.md.',
    '',
    'Exit code: 0 none is due, 1 an error, 2 one is due.',
  ].join('\n'),
  settings: ['rung', 'data', 'prometheus', 'process.dataDir'],
  examples: ['rung adr', 'rung adr --json'],
  options: evidenceOptions,
  async run(input) {
    const { cwd, out } = input
    const files = numberedIn(await readdir(adrDir(cwd)).catch(() => []))
    if (files.length === 0) {
      return result({ decisions: [], problems: [] }, () =>
        out.line('There are no decisions in docs/adr. Write one with: rung advise --accept 1'),
      )
    }
    const { evidence, problems } = await evidenceOfApp(input, input.positionals[0])
    const figures = figuresOf(evidence)
    const decisions = await checkedDecisions(cwd, figures, evidence.today)
    return result(
      { decisions, problems },
      () => {
        for (const { title, revisitWhen, problem, isDue, now, number } of decisions) {
          const name = /^\d+\./.test(title) ? title : `${number}. ${title}`
          for (const line of hanging('', `${isDue ? 'DUE  ' : ''}${name}`)) out.line(line)
          const again =
            revisitWhen === null
              ? (problem ?? 'no condition that can be checked')
              : `when ${revisitWhen}; ${now.join(', ')}`
          for (const line of hanging('    ', again)) out.line(line)
        }
        for (const problem of problems) for (const line of ['', ...hanging('', problem)]) out.line(line)
      },
      decisions.some(({ isDue }) => isDue) ? 2 : 0,
    )
  },
}
export default command

/** Decisions in docs/adr, each with whether its condition has come true. */
export async function checkedDecisions(cwd: string, figures: Figures, today: number) {
  const files = numberedIn(await readdir(adrDir(cwd)).catch(() => []))
  const found = await Promise.all(
    files.map(async ({ number, name }) => {
      const file = path.join(adrDir(cwd), name)
      // A folder has no text, and a pipe would be waited for.
      const isFile = await stat(file).then(
        (found) => found.isFile(),
        () => false,
      )
      if (!isFile) return []
      const text = await readFile(file, 'utf8').catch(() => undefined)
      if (text === undefined) return []
      const { title, revisitWhen, problem } = parseDecision(text)
      const { isTrue = false, now = [] } = revisitWhen
        ? checkCondition(parseCondition(revisitWhen)!, figures, today)
        : {}
      return [
        {
          ...{
            number,
            file: `docs/adr/${plainText(name)}`,
            title,
            revisitWhen: revisitWhen ?? null,
            isDue: isTrue,
            now,
          },
          ...(problem !== undefined && { problem }),
        },
      ]
    }),
  )
  return found.flat()
}
