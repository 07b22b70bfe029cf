import { existsSync } from 'node:fs'
import { mkdir, writeFile } from 'node:fs/promises'
import { availableParallelism } from 'node:os'
import path from 'node:path'
import { RungError } from '../kernel/errors.ts'
import { type Phase, secondsOf } from '../load/arrivals.ts'
import { missesOf, type Objective } from '../load/break.ts'
import { draftScenario } from '../load/draft.ts'
import { limitedShare, limitedText } from '../load/limited.ts'
import { failuresText, figuresTable, htmlReport, short } from '../load/report.ts'
import { runLoadInThreads } from '../load/run.ts'
import { checkScenario } from '../load/scenario.ts'
import scenarioOf, { type ScenarioFile, scenarioThread } from '../load/scenario-file.ts'
import { type Figures, type Summary, summaryOf } from '../load/summary.ts'
import {
  type Command,
  type Input,
  numberOption,
  percentOption,
  result,
  settingOptions,
  timeOption,
  unknownVerb,
} from './command.ts'
import { askForDraft, urlHere } from './draft-file.ts'
import { dataDirOfInput } from './input-settings.ts'
import { breakLines, loadToBreak, writeBreakReport } from './load-break.ts'
import { lastLoad, noteLoad } from './proved.ts'
import { second, tableLines } from './table.ts'

const fileByDefault = 'load.ts'
/** Of `--to-break`, which doubles it. */
const rateAtFirst = 10
const rateMost = 100_000

const load: Command = {
  name: 'load',
  summary: 'send requests as people do, and tell how long they waited',
  usage: 'rung load [scenario-file] [options] | rung load init [scenario-file] | rung load last',
  wordsMax: 2,
  help: [
    'Runs a scenario (load.ts): who comes how often, and what they do. Journeys begin at their',
    'rate, whatever the answers are, and latencies count from when a request was due: a stall of',
    'the server is not hidden. If the generator itself was too slow, there are no figures.',
    '',
    '--to-break raises the rate until the objective (--p95, --failing) does not hold, and finds',
    'the limit in rounds near it, with the part that was used up first and what a journey costs',
    'each part. It takes some minutes; use it where nobody else is served.',
    '',
    '"rung load init" writes a first scenario from the OpenAPI document of the app that runs.',
    '"rung load last" prints again what the last load test here has measured.',
    '',
    'The load goes to the app that runs on the data directory, or to --url. Another machine must',
    'be named in "hosts" of the scenario. With --p95 or --failing the command exits with 1 if',
    'the objective was not held.',
  ].join('\n'),
  settings: [],
  examples: [
    'rung load init && rung load',
    'rung load --rate 200 --for 30s --report docs/reports/load.html',
    'rung load checkout.ts --p95 200ms --failing 1%',
    'rung load --to-break --p95 112ms --report docs/reports/limit.html',
  ],
  options: {
    ...settingOptions('process.dataDir'),
    url: { type: 'string', value: 'url', help: 'Address of the app (the one that runs here).' },
    rate: {
      type: 'string',
      value: 'number',
      help: "Journeys that begin in a second, instead of the scenario's phases.",
    },
    for: { type: 'string', value: 'time', help: 'How long, with --rate (30s).' },
    threads: { type: 'string', value: 'number', help: 'Threads of the generator (1).' },
    seed: { type: 'string', value: 'number', help: 'Repeats the same arrivals and choices (1).' },
    p95: { type: 'string', value: 'time', help: 'Objective: 95 of 100 requests are answered within this time.' },
    failing: {
      type: 'string',
      value: 'percent',
      help: 'Objective: at most this share of requests fails (1%, with --p95).',
    },
    'to-break': { type: 'boolean', help: 'Find the highest rate at which the objective holds.' },
    step: { type: 'string', value: 'time', help: 'How long each rate is kept, with --to-break (5s).' },
    rounds: { type: 'string', value: 'number', help: 'How often rates near the limit are measured (5).' },
    report: { type: 'string', value: 'file', help: 'Writes a page with tables and charts, which stands for itself.' },
    force: { type: 'boolean', help: 'init: replace a file that is there.' },
  },
  async run(input) {
    const [first, other] = input.positionals
    if (first === 'init') return init(input, other ?? fileByDefault)
    if (other !== undefined) unknownVerb(load, other)
    if (first === 'last') return last(input)
    return run(input, first ?? fileByDefault)
  },
}
export default load

async function run(input: Input, name: string) {
  const { cwd, values, json, out } = input
  const file = path.resolve(cwd, name)
  if (!existsSync(file))
    throw new RungError('COMMAND_INVALID', `There is no ${name}. Write a first scenario with: rung load init`)
  const objective = objectiveIn(input)
  if (typeof values.report === 'string')
    await mkdir(path.dirname(path.resolve(cwd, values.report)), { recursive: true })
  const stepSeconds = timeOption(input, 'step', 5_000) / 1_000
  const first = values['to-break'] ? [{ seconds: stepSeconds, rate: rateAtFirst }] : undefined
  const phases = phasesIn(input) ?? first
  const given: ScenarioFile = {
    file,
    ...(phases && { phases }),
    ...(values.seed !== undefined && { seed: numberOption(input, 'seed', { max: 2 ** 31 - 1, otherwise: 1 }) }),
  }
  const scenario = await scenarioOf(given)
  given.url = (values.url as string | undefined) ?? scenario.url ?? (await urlHere(input))
  const url = checkScenario({ ...scenario, url: given.url })
  const threads = numberOption(input, 'threads', { max: availableParallelism(), otherwise: 1 })
  if (values['to-break']) {
    if (!objective)
      throw new RungError('COMMAND_INVALID', '--to-break needs an objective. Write for example --p95 200ms.')
    const view = await loadToBreak({
      ...{ given, objective, threads, scenario: name, note: json ? () => {} : out.note },
      journeys: scenario.journeys.map((one) => one.name),
      dataDir: dataDirOfInput(input),
      stepSeconds,
      from: phases![0]!.rate,
      rateMax: rateMost,
      rounds: numberOption(input, 'rounds', { max: 20, otherwise: 5 }),
      seed: given.seed ?? 1,
    })
    if (typeof values.report === 'string') await writeBreakReport(path.resolve(cwd, values.report), view)
    const print = () => {
      for (const line of breakLines(view)) out.line(line)
      if (typeof values.report === 'string') out.line(`The report is in ${values.report}.`)
    }
    return result(view, print, view.steps.length === 0 ? 1 : 0)
  }
  const seconds = scenario.trace ? (scenario.trace.at(-1) ?? 0) / 1_000 : secondsOf(scenario.phases ?? [])
  if (!json) out.note(`${url.href}: ${scenario.journeys.map((one) => one.name).join(', ')}`)
  const everySeconds = Math.max(1, Math.round(seconds / 60))
  let count = 0
  const loaded = await runLoadInThreads(scenarioThread, given, threads, {
    onSecond({ at, rate, p95, inFlight, failures }) {
      count += 1
      if (json || count % everySeconds !== 0) return
      const left = seconds > 0 ? ` of ${Math.round(seconds)}` : ''
      out.note(
        `${Math.round(at)}${left} s  ${short(rate)}/s  p95 ${short(p95)} ms  ${inFlight} in flight${failures > 0 ? `  ${short(failures)} failures/s` : ''}`,
      )
    },
  })
  const summary = summaryOf(loaded)
  const verdict = objective && judge(summary.all, objective)
  const view = {
    url: url.href,
    scenario: name,
    ...summary,
    ...(verdict && { objective: { ...objective, ...verdict } }),
  }
  if (typeof values.report === 'string') await writeReport(path.resolve(cwd, values.report), view)
  await noteLoad(dataDirOfInput(input), { url: url.href, scenario: name, ...summary })
  const print = () => {
    for (const line of linesOf(summary)) out.line(line)
    if (verdict)
      out.line(`\n${verdict.held ? 'The objective was held.' : `The objective was not held: ${verdict.why}`}`)
    if (typeof values.report === 'string') out.line(`\nThe report is in ${values.report}.`)
  }
  return result(view, print, verdict && !verdict.held ? 1 : 0)
}

async function last(input: Input) {
  const { out } = input
  const loaded = await lastLoad(dataDirOfInput(input))
  return result(loaded ?? null, (found) => {
    if (!found)
      return out.line('No load test was run here yet. Write a scenario and run it: rung load init && rung load')
    out.line(`${second(found.at)} UTC  ${found.scenario} at ${found.url}`)
    for (const line of linesOf(found)) out.line(line)
  })
}

/** @throws COMMAND_INVALID */
function phasesIn(input: Input): Phase[] | undefined {
  const { values } = input
  if (values.rate === undefined) {
    if (values.for !== undefined) throw new RungError('COMMAND_INVALID', '--for needs --rate. See: rung load --help')
    return undefined
  }
  const rate = Number(values.rate)
  if (!(rate > 0))
    throw new RungError('COMMAND_INVALID', `--rate must be a number of more than 0; it is "${values.rate}".`)
  return [{ seconds: timeOption(input, 'for', 30_000) / 1_000, rate }]
}

/** @throws COMMAND_INVALID */
function objectiveIn(input: Input): Objective | undefined {
  const { p95, failing } = input.values
  if (p95 === undefined && failing === undefined) return undefined
  return {
    ...(p95 !== undefined && { p95Ms: timeOption(input, 'p95', 0) }),
    failing: percentOption(input, 'failing', '1%'),
  }
}

function judge(all: Figures, objective: Objective): { held: boolean; why?: string } {
  const misses = missesOf(all, objective)
  return misses.length === 0 ? { held: true } : { held: false, why: `${misses.join('; ')}.` }
}

function linesOf({ journeys, seconds, all, routes, byJourney, generator }: Omit<Summary, 'timeline'>): string[] {
  const rows = (figures: Readonly<Record<string, Figures>>) =>
    Object.entries(figures).map(([name, { count, rate, p50, p95, p99, failures }]) => [
      ...[name, String(count), short(rate), short(p50), short(p95), short(p99)],
      String(Object.values(failures).reduce((sum, one) => sum + one, 0)),
    ])
  const table = (head: string, figures: Readonly<Record<string, Figures>>) =>
    tableLines(
      [31, -7, -7, -7, -7, -7, -6],
      [[head, 'count', 'per s', 'p50 ms', 'p95 ms', 'p99 ms', 'failed'], ...rows(figures)],
      ' ',
    )
  const several = Object.keys(byJourney).length > 1
  return [
    ...['', `${journeys} journeys in ${short(seconds)} s`, ''],
    ...table('route', { ...routes, all }),
    ...(several ? ['', ...table('journey, without thinking', byJourney)] : []),
    ...(Object.keys(all.failures).length > 0 ? ['', `failures: ${failuresText(all.failures)}`] : []),
    ...(limitedShare(all.count, all.failures) > 0 ? [limitedText] : []),
    '',
    generatorLine(generator),
  ]
}

function generatorLine({ busy, late99Ms }: Summary['generator']): string {
  return `The generator was busy for ${Math.round(100 * busy)} % of the time; 99 of 100 journeys began at most ${short(late99Ms)} ms late.`
}

async function writeReport(file: string, view: Summary & { url: string; scenario: string }): Promise<void> {
  const { url, scenario, seconds, journeys, all, routes, byJourney, timeline, generator } = view
  const x = timeline.map(({ at }) => at)
  const line = (name: string, of: (one: Summary['timeline'][number]) => number) => ({
    name,
    values: timeline.map((one) => (Number.isFinite(of(one)) ? of(one) : null)),
  })
  const page = await htmlReport({
    title: `Load on ${url}`,
    lines: [
      `${scenario}, ${new Date(performance.timeOrigin).toISOString().slice(0, 16).replace('T', ' ')} UTC, ${short(seconds)} s`,
      generatorLine(generator),
    ],
    figures: [
      { name: 'requests', value: String(all.count), note: `${short(all.rate)}/s` },
      { name: 'journeys', value: String(journeys) },
      { name: 'p50', value: `${short(all.p50)} ms` },
      { name: 'p95', value: `${short(all.p95)} ms` },
      { name: 'p99', value: `${short(all.p99)} ms` },
      { name: 'failed', value: `${short(100 * all.failing)} %`, note: failuresText(all.failures) },
    ],
    charts: [
      {
        title: 'Answers',
        unitX: 's',
        unitY: 'per s',
        x,
        lines: [line('answers', (one) => one.rate), line('failures', (one) => one.failures)],
      },
      {
        ...{ title: 'Latency', unitX: 's', unitY: 'ms', x },
        lines: [line('p50', (one) => one.p50), line('p95', (one) => one.p95), line('p99', (one) => one.p99)],
      },
      { title: 'In flight', unitX: 's', unitY: 'requests', x, lines: [line('requests', (one) => one.inFlight)] },
    ],
    tables: [
      figuresTable('Routes', { ...routes, all }),
      figuresTable('Journeys, without the time to think', byJourney),
    ],
  })
  await writeFile(file, page)
}

async function init(input: Input, name: string) {
  const { file, url, document, probes } = await askForDraft(input, name)
  await writeFile(file, draftScenario(document, probes, url))
  const read = probes.filter(({ status }) => status < 400).length
  return result({ file: name, url, answered: read, asked: probes.length }, () => {
    input.out.line(
      `Wrote ${name}: ${read} of ${probes.length} routes that were asked have answered, and are read. The others are in it as comments.`,
    )
    input.out.line('Run it with: rung load')
  })
}
