import type { App } from '../app/define-app.ts'
import { askFleet } from '../fleet/control.ts'
import { runningFleet } from '../fleet/state.ts'
import { systemClock } from '../kernel/clock.ts'
import { RungError } from '../kernel/errors.ts'
import { nearestOf } from '../kernel/typos.ts'
import { judgeExtraction, type ModuleFacts, ratesOf } from '../planner/extraction.ts'
import { amount, percent } from '../planner/words.ts'
import { loadApp } from '../runtime/load-app.ts'
import { type NodeGroup, nodeGroups } from '../topology/setting-types.ts'
import { type Command, hanging, type Input, result, settingOptions } from './command.ts'
import { moduleFacts, type Tie, tiesOf } from './extract-facts.ts'
import { dataDirOfInput } from './input-settings.ts'
import { knownOf } from './recorded.ts'

type Nodes = Readonly<Record<string, NodeGroup>>

const extract: Command = {
  name: 'extract',
  summary: 'give modules nodes of their own, or join them again',
  usage: 'rung extract <module> … [--dry-run | --undo] [options]',
  help: [
    'Gives modules processes of their own in the fleet that "rung up" runs here, while it',
    'answers requests: the balancer leads their requests there, and other modules call them',
    'over HTTP. No line of the app changes, and no request fails. --undo joins them again.',
    '',
    'First it says whether that is worth it, from what was recorded: what is scarce, and',
    'how much of it the modules take; who calls them how often; and what ties them to',
    'others. --dry-run stops there.',
    '',
    'By default a group has one process for requests if its modules have routes or calls,',
    'and one for jobs if they have work. What it has no process for stays where it is.',
    '',
    'The groups hold until the fleet stops. To keep them, write them as "nodes" into',
    'rung.config.ts, as the command shows it.',
  ].join('\n'),
  examples: [
    'rung extract notifications --dry-run',
    'rung extract avatars --name media --web 1 --worker 2',
    'rung extract notifications --undo',
  ],
  options: {
    ...settingOptions('process.dataDir'),
    name: { type: 'string', value: 'name', help: 'The name of the group; by default that of the first module.' },
    web: { type: 'string', value: 'number', help: 'Processes for its requests and calls.' },
    worker: { type: 'string', value: 'number', help: 'Processes for its jobs and events.' },
    'dry-run': { type: 'boolean', help: 'Judge only.' },
    undo: { type: 'boolean', help: 'Join the modules with the others again.' },
    tied: { type: 'boolean', help: 'Also if something ties the modules to others.' },
  },
  async run(input) {
    const { values, out, cwd } = input
    const dataDir = dataDirOfInput(input)
    const fleet = await runningFleet(dataDir)
    if (!fleet)
      throw new RungError(
        'FLEET_NOT_RUNNING',
        'No "rung up" runs here. Groups of a fleet that is started are "nodes" of rung.config.ts.',
      )
    const app = await loadApp(fleet.app, cwd)
    const modules = modulesIn(input, app)
    const isUndo = values.undo === true
    const nodes = isUndo ? without(fleet.nodes, modules) : withGroup(fleet.nodes, modules, app, input)
    if (!nodeGroups.accepts(nodes)) throw invalid(`With these groups nodes must ${nodeGroups.must}.`)
    const ties = isUndo ? [] : tiesOf(app, modules, cwd)
    const { recorded } = isUndo ? { recorded: undefined } : await knownOf(input, systemClock.now())
    const judged = isUndo
      ? []
      : modules.map((module) => {
          const facts = moduleFacts(module, recorded)
          return { ...facts, ...judgeExtraction(facts) }
        })
    const plan = { modules, before: fleet.nodes, nodes, ties, judged }
    const tell = (line: (text: string) => void) => {
      for (const one of judged) for (const text of judgedLines(one)) line(text)
      for (const text of tieLines(ties)) line(text)
      for (const text of planLines(plan)) line(text)
    }
    if (values['dry-run'] === true)
      return result(
        { ...plan, outcome: 'planned' },
        () => {
          tell(out.line)
          out.line('Nothing was changed.')
        },
        ties.length > 0 && values.tied !== true ? 1 : 0,
      )
    if (ties.length > 0 && values.tied !== true) {
      const [first] = ties
      throw new RungError(
        'EXTRACT_REFUSED',
        `${first!.what}${first!.at ? ` (${first!.at})` : ''} To extract all the same: --tied`,
        {
          facts: { ties },
        },
      )
    }
    if (!input.json) tell(out.note)
    const done = await askFleet(dataDir, { command: 'extract', nodes, from: fleet.nodes }, out.note)
    return result({ ...plan, ...(done as object), outcome: 'done' }, () => {
      out.line(
        isUndo ? `${modules.join(', ')} run with the others again.` : `${modules.join(', ')} have nodes of their own.`,
      )
      for (const text of hanging('  ', `To keep it, write into rung.config.ts: nodes: ${written(nodes)}`))
        out.line(text)
    })
  },
}
export default extract

/** @throws COMMAND_INVALID */
function modulesIn({ positionals }: Input, app: App): string[] {
  const names = app.modules.map(({ name }) => name)
  if (positionals.length === 0) throw invalid(`Name a module of the app: ${names.join(', ')}.`)
  for (const one of positionals) {
    if (names.includes(one)) continue
    const meant = nearestOf(one, names)
    throw invalid(
      `The app has no module "${one}". ${meant === undefined ? `It has ${names.join(', ')}.` : `Write ${meant}.`}`,
    )
  }
  return [...new Set(positionals)]
}

function without(nodes: Nodes, modules: readonly string[]): Nodes {
  const left = Object.entries(nodes).map(([name, group]): [string, NodeGroup] => [
    name,
    { ...group, modules: group.modules.filter((one) => !modules.includes(one)) },
  ])
  const missing = modules.find((one) => !Object.values(nodes).some((group) => group.modules.includes(one)))
  if (missing !== undefined) throw invalid(`"${missing}" has no nodes of its own here. Groups are: rung ps`)
  return Object.fromEntries(left.filter(([, group]) => group.modules.length > 0))
}

function withGroup(nodes: Nodes, modules: readonly string[], app: App, input: Input): Nodes {
  const taken = Object.entries(nodes).find(([, group]) => group.modules.some((one) => modules.includes(one)))
  if (taken)
    throw invalid(
      `The group "${taken[0]}" has ${taken[1].modules.join(', ')} already. To join them again: rung extract ${taken[1].modules.join(' ')} --undo`,
    )
  const { name = modules[0]! } = input.values
  if (Object.hasOwn(nodes, String(name)))
    throw invalid(`There is a group "${name}" already. Give this one another --name.`)
  const own = app.modules.filter((one) => modules.includes(one.name))
  const otherwise = {
    web: own.some(({ routes, exposes }) => routes !== undefined || exposes !== undefined) ? 1 : 0,
    worker: own.some(({ work }) => work !== undefined) ? 1 : 0,
  }
  // Text that is no number becomes NaN, which the check of all groups refuses.
  const count = (role: 'web' | 'worker') => Number(input.values[role] ?? otherwise[role])
  return { ...nodes, [String(name)]: { modules, web: count('web'), worker: count('worker') } }
}

function* judgedLines({ isWorth, reasons, ...facts }: ModuleFacts & { isWorth: boolean; reasons: readonly string[] }) {
  const { module, hours, requests, work, callers, callees } = facts
  const row = (label: string, text: string) => hanging(`  ${label.padEnd(9)}  `, text)
  yield `${module}, by ${amount(hours)} h of the record:`
  yield* row('requests', `${percent(requests.share)} of the time of all, p95 ${amount(requests.p95Ms)} ms`)
  yield* row('work', `${percent(work.share)} of the time of all jobs and deliveries`)
  for (const [label, list] of [
    ['called by', callers],
    ['calls', callees],
  ] as const) {
    const rates = ratesOf(list, hours).sort((a, b) => b.perS - a.perS)
    const texts = rates.map((one) => `${one.module} ${amount(one.perS)}/s, ${amount(one.ms)} ms each`)
    if (texts.length > 0) yield* row(label, texts.join('; '))
  }
  yield* row(isWorth ? 'worth it' : 'not worth', reasons.join(' '))
}

function* tieLines(ties: readonly Tie[]) {
  for (const { what, at } of ties) yield* hanging('  tied       ', `${what}${at === undefined ? '' : ` ${at}`}`)
}

function* planLines({ before, nodes }: { before: Nodes; nodes: Nodes }) {
  const parts = (of: Nodes) =>
    Object.entries(of).flatMap(([name, { web = 0, worker = 0 }]) => [
      ...(web > 0 ? [`${name}-web (${web})`] : []),
      ...(worker > 0 ? [`${name}-worker (${worker})`] : []),
    ])
  const [old, next] = [parts(before), parts(nodes)]
  const added = next.filter((one) => !old.includes(one))
  const removed = old.filter((one) => !next.includes(one))
  if (added.length > 0) yield* hanging('  adds       ', `${added.join(', ')}`)
  if (removed.length > 0) yield* hanging('  removes    ', removed.join(', '))
  yield* hanging(
    '  restarts   ',
    'all other processes of the app, one after the other: they learn where the modules are',
  )
}

function written(nodes: Nodes): string {
  return JSON.stringify(nodes)
    .replaceAll(/"([a-z_]\w*)":/g, '$1: ')
    .replaceAll(',', ', ')
    .replaceAll('"', "'")
}

function invalid(message: string): RungError {
  return new RungError('COMMAND_INVALID', message)
}
