import type { ClimbPlan, ClimbResult } from '../fleet/climb.ts'
import { askFleet, type ClimbRequest, watchMsMost } from '../fleet/control.ts'
import { type Check, checkNames, checksOf } from '../fleet/preflight.ts'
import { startedOn } from '../fleet/started.ts'
import { runningFleet } from '../fleet/state.ts'
import { isRungError, RungError } from '../kernel/errors.ts'
import { formatBytes, formatMs, toMs } from '../kernel/units.ts'
import { rungNames } from '../topology/catalog.ts'
import type { RungName } from '../topology/topology.ts'
import { climbFacts } from './climb-facts.ts'
import { type Command, hanging, type Input, result, settingOptions } from './command.ts'
import { dataDirOfInput, rungAndApp } from './input-settings.ts'

const climb: Command = {
  name: 'climb',
  summary: 'bring a running fleet to another rung, and back',
  usage: 'rung climb [rung] [options]',
  wordsMax: 1,
  help: [
    'Brings the fleet that "rung up" runs here to the next rung, or to the one that is named,',
    'while it answers requests. It checks the app, the database and the machine first, and',
    'refuses with a reason for each check that fails; --accept takes the risk of one by its',
    'name. Then it says what it will do, and does it: engines, processes one after the other,',
    'at last what stands in front of them.',
    '',
    'Afterwards it tries out what runs, and compares the traffic with that before: share of 5xx',
    'answers, and p95. If a step fails, a part is not well or the traffic is worse, it goes back',
    'by itself, and this command exits with 1.',
    '',
    'The next "rung up" that is told no rung goes on at the new one, and says so. Ctrl-C ends only',
    'this command: the climb is completed.',
    '',
    `Checks: ${checkNames.join(', ')}.`,
  ].join('\n'),
  examples: ['rung climb --dry-run', 'rung climb 100k --accept backup,drill', 'rung climb --undo'],
  options: {
    ...settingOptions('process.dataDir'),
    'dry-run': { type: 'boolean', help: 'Check and plan only.' },
    undo: { type: 'boolean', help: 'Go back to the rung before the last climb.' },
    accept: { type: 'string', value: 'checks', help: 'Checks that may fail, separated by commas.' },
    watch: { type: 'string', value: 'time', help: 'How long the traffic is compared (5s); 0s: not at all.' },
  },
  async run(input) {
    const { values, out, json } = input
    const { rung, app } = rungAndApp(input.positionals)
    if (app !== undefined) throw invalid(`"${app}" is not a rung. Write for example: rung climb 100k`)
    if (values.undo && rung !== undefined) throw invalid('--undo goes to the rung before; do not name one as well.')
    const accepted = acceptedIn(input)
    const dataDir = dataDirOfInput(input)
    const watch = watchIn(input)
    const ask = async (request: ClimbRequest) =>
      (await askFleet(dataDir, { command: 'climb', ...request, ...watch }, out.note).catch(async (error) => {
        throw isRungError(error, 'FLEET_NOT_RUNNING') ? await orStop(dataDir, rung, error) : error
      })) as ClimbResult
    const plan = await ask({
      dryRun: true,
      ...(rung !== undefined && { rung: rung as RungName }),
      ...(values.undo === true && { undo: true }),
    })
    if (plan.outcome === 'unchanged')
      return result({ ...plan, checks: [] }, () => out.line(`The fleet runs at rung ${plan.to} already.`))
    const fleet = (await runningFleet(dataDir))!
    const facts = await climbFacts(plan, fleet, input)
    const checks = checksOf(facts, accepted)
    const refused = checks.filter(({ state }) => state === 'refused')
    const addedBytes = facts.memory?.addedBytes
    const tell = (line: (text: string) => void) => {
      for (const text of [...checkLines(checks), '', ...planLines(plan, addedBytes)]) line(text)
    }
    const hard = refused.some(({ name }) => name === 'engines')
    const names = refused.map(({ name }) => name).join(',')
    if (values['dry-run'] === true) {
      const verdict =
        refused.length === 0
          ? 'It would climb.'
          : `It would not climb: ${names}.${hard ? '' : ` To climb all the same: --accept ${names}`}`
      return result(
        { ...plan, checks },
        () => {
          tell(out.line)
          out.line()
          for (const text of hanging('', `Nothing was changed. ${verdict}`)) out.line(text)
        },
        refused.length > 0 ? 1 : 0,
      )
    }
    if (refused.length > 0) {
      if (!json) for (const text of checkLines(checks)) out.note(text)
      throw new RungError(
        'CLIMB_REFUSED',
        `${refused.map(({ seen }) => seen).join(' ')} Nothing was changed.${hard ? '' : ` To climb all the same: --accept ${names}`}`,
        { facts: { checks } },
      )
    }
    if (!json) tell(out.note)
    const view = await ask({ from: plan.from, rung: plan.to }) // what was checked, whatever others have done since
    return result(
      { ...view, checks },
      () => {
        for (const text of outcomeLines(view, values.undo === true)) out.line(text)
      },
      view.outcome === 'taken back' ? 1 : 0,
    )
  },
}
export default climb

/** Where only `rung start` runs, one stop is needed. */
async function orStop(dataDir: string, rung: string | undefined, error: RungError): Promise<RungError> {
  if ((await startedOn(dataDir)).length === 0) return error
  return new RungError(
    'CLIMB_REFUSED',
    `"rung start" runs here, which has its port for itself, so one stop is needed: rung stop && rung up ${rung ?? rungNames[1]}. A fleet of "rung up" climbs while it answers.`,
    { cause: error },
  )
}

/** @throws COMMAND_INVALID */
function acceptedIn({ values: { accept } }: Input): ReadonlySet<string> {
  const names = typeof accept === 'string' ? accept.split(',') : []
  const unknown = names.find((name) => !checkNames.some((one) => one === name))
  if (unknown !== undefined) throw invalid(`"${unknown}" is not a check. Checks are ${checkNames.join(', ')}.`)
  if (names.includes('engines')) throw invalid('Missing engines cannot be accepted. Install them: rung engines install')
  return new Set(names)
}

/** @throws COMMAND_INVALID */
function watchIn({ values }: Input): { watchMs?: number } {
  if (values.watch === undefined) return {}
  const text = String(values.watch)
  const watchMs = /^\d+(ms|s|m|h)$/.test(text) ? toMs(text as '10s') : Number.NaN
  if (watchMs <= watchMsMost) return { watchMs }
  throw invalid(`--watch must be a time of at most an hour, such as 30s; it is "${text}".`)
}

function* checkLines(checks: readonly Check[]): Generator<string> {
  for (const { name, state, seen, todo } of checks) {
    const head = `${state.padEnd(8)}  ${name.padEnd(11)}  `
    yield* hanging(head, todo === undefined ? seen : `${seen} ${todo.replace(/\.?$/, '.')}`)
  }
}

function* planLines(plan: ClimbPlan, addedBytes: number | undefined): Generator<string> {
  const { from, to, added, removed, restarted, moves, app, parts } = plan
  const row = (label: string, text: string) => hanging(`  ${label.padEnd(9)}  `, text)
  yield `From rung ${from} to ${to}:`
  if (added.length > 0) yield* row('adds', added.join(', '))
  if (restarted.length > 0) yield* row('restarts', `${restarted.join(', ')}, one after the other`)
  if (removed.length > 0) yield* row('removes', removed.join(', '))
  for (const text of moves) yield* row('moves', text)
  for (const text of app) yield* row('the app', text)
  const memory =
    addedBytes === undefined || addedBytes === 0 ? '' : `, and about ${formatBytes(addedBytes)} of memory more`
  yield* row('costs', `${parts.next} parts instead of ${parts.now}${memory}.`)
}

function* outcomeLines(
  { from, to, outcome, reason, traffic, tookMs }: ClimbResult,
  isUndo: boolean,
): Generator<string> {
  if (outcome === 'taken back') {
    yield* hanging('', `The climb to rung ${to} was taken back, and ${from} runs. ${reason}`)
    return
  }
  yield `The fleet runs at rung ${to}, after ${formatMs(tookMs)}.`
  if (traffic) {
    for (const [when, { requests, errors, p95Ms }] of Object.entries(traffic)) {
      const p95 = p95Ms === null ? '' : `, p95 at most ${formatMs(p95Ms)}`
      yield `  ${when.padEnd(6)}  ${requests} requests, ${errors} failed${p95}`
    }
  }
  if (isUndo) return
  yield* hanging(
    '  ',
    `To keep it, write rung: '${to}' in rung.config.ts, or start with: rung up ${to}. Until then the next "rung up" without a rung goes on at ${to}. Back: rung climb --undo`,
  )
}

function invalid(message: string): RungError {
  return new RungError('COMMAND_INVALID', message)
}
