import { isRungError, RungError } from '../kernel/errors.ts'
import { type ReadyLine, readyLines } from '../planner/ready.ts'
import { type Command, hanging, type Input, type Result, result } from './command.ts'
import { evidenceOptions } from './evidence-of-app.ts'
import plan from './plan.ts'
import { standingOf } from './standing.ts'

const command: Command = {
  name: 'ready',
  summary: 'say whether the app is ready for the next rung, with evidence',
  usage: 'rung ready [rung] [app-file] [options]',
  wordsMax: 2,
  help: [
    'Looks at what a step needs: a load test, no state in one process, promises tried out while',
    'parts fail, a record, alerts that reach somebody, a backup and a restore that was tried,',
    'deploys, a schema with nothing to act on, decisions. Each point has its evidence, and what',
    'to do where it is missing. Without a rung it is the next one; "rung ready 1m" asks for the',
    'highest.',
    '',
    'With --event and --times it also asks the plan whether a launch or a press day will hold,',
    'and what is used up first then.',
    '',
    'Exit code: 0 ready, 1 an error, 2 something is missing.',
  ].join('\n'),
  settings: ['rung', 'data', 'prometheus', 'alerts', 'backup', 'process.dataDir'],
  examples: ['rung ready', 'rung ready 1m', 'rung ready --event 2027-03-01 --times 10'],
  options: {
    event: { type: 'string', value: 'date', help: 'A day on which it must hold, such as 2027-03-01.' },
    times: { type: 'string', value: 'number', help: "So many times today's rate, or that of the event's day." },
    ...evidenceOptions,
  },
  async run(input) {
    const { positionals, values, out } = input
    const asks = values.event !== undefined || values.times !== undefined
    const [first, second] = positionals
    const isRung = first !== undefined && /^\d+[km]$/.test(first)
    if (!isRung && second !== undefined)
      throw new RungError('COMMAND_INVALID', 'Give at most a rung and the app file: rung ready 100k src/app.ts')
    const app = isRung ? second : first
    const planned = asks ? await planFor(input, app) : undefined
    const { ready, problems } = await standingOf(input, {
      ...(app !== undefined && { app }),
      ...(isRung && { to: first }),
    })
    const lines = readyLines(ready)
    const yes = lines.filter(({ state }) => state === 'yes').length
    return result(
      { rung: ready.rung, to: ready.to, yes, of: lines.length, lines, problems, plan: planned?.view ?? null },
      () => {
        if (planned) {
          planned.print()
          out.line()
        }
        out.line(`${yes === lines.length ? 'Ready' : 'Not ready'} for ${ready.to}: ${yes} of ${lines.length} points.`)
        out.line()
        for (const text of lines.flatMap(textOf)) out.line(text)
        for (const problem of problems) for (const text of ['', ...hanging('', problem)]) out.line(text)
      },
      yes === lines.length ? 0 : 2,
    )
  },
}
export default command

/** What the plan says of the day that is asked for; where it cannot say it, why. */
async function planFor(input: Input, app: string | undefined): Promise<Pick<Result, 'view' | 'print'>> {
  try {
    return (await plan.run({ ...input, positionals: app === undefined ? [] : [app] })) as Result
  } catch (error) {
    if (!isRungError(error)) throw error
    const problem = `The plan does not know: ${error.message}`
    return { view: { problem }, print: () => hanging('', problem).forEach((line) => void input.out.line(line)) }
  }
}

const words = { yes: 'yes', no: 'NO', unknown: '?' } as const

function textOf({ name, state, seen, todo }: ReadyLine): string[] {
  const head = `${words[state].padEnd(4)} ${name.padEnd(10)} `
  return hanging(head, todo === undefined ? seen : `${seen} ${todo}`)
}
