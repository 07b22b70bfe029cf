import { existsSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { pathToFileURL } from 'node:url'
import { faultCalled, faults } from '../chaos/faults.ts'
import { fleetParts } from '../chaos/parts.ts'
import { scheduleOf } from '../chaos/schedule.ts'
import { messageOf, RungError } from '../kernel/errors.ts'
import { systemRandom } from '../kernel/random.ts'
import { askRoutes } from '../load/ask-routes.ts'
import { short } from '../load/report.ts'
import { type Findings, findingsOf, inSeconds, kindsIn } from '../prove/findings.ts'
import { startFleet } from '../prove/fleet.ts'
import { checkProof, type Proof, pagesAlone } from '../prove/proof.ts'
import { writeProofReport } from '../prove/report.ts'
import { faultsForMs, prove as proveFleet } from '../prove/run.ts'
import { requireApp } from '../runtime/load-app.ts'
import { type Command, hanging, type Input, numberOption, result } from './command.ts'
import { rungAndApp } from './input-settings.ts'
import { interruptible, rungCommand } from './interruptible.ts'
import { tableLines } from './table.ts'

const fileByDefault = 'prove.ts'
const seedMax = 2 ** 31

const prove: Command = {
  name: 'prove',
  summary: 'try out what the app promises, while parts of a fleet fail',
  usage: 'rung prove [rung] [app-file] [options]',
  help: [
    'Starts a fleet of its own with an empty database, in a temporary folder. Opens sessions that',
    'write and read as the proof says (prove.ts beside the app), injects faults meanwhile, and',
    'checks what each session saw: a verdict for each promise, and what each fault did.',
    '',
    'Without prove.ts it opens pages that answer, and checks that they go on to. The exit code',
    'then says less: write the file.',
    '',
    'The seed repeats it: the same faults at the same times, and the same choices. Exits with 1 if',
    'a promise was not held; then the folder is kept, with the history and all logs.',
  ].join('\n'),
  settings: [],
  examples: [
    'rung prove 100k',
    'rung prove 10k --minutes 10 --seed 7 --report proof.html',
    'rung prove 100k --faults kill,freeze',
  ],
  options: {
    minutes: { type: 'string', value: 'number', help: 'How long sessions come (2).' },
    seed: { type: 'string', value: 'number', help: 'Of the faults and the sessions. Default: a new one.' },
    faults: {
      type: 'string',
      value: 'names',
      help: 'Separated by commas; "none" for none. Default: all that are possible here.',
    },
    pairs: { type: 'boolean', help: 'Two faults at a time.' },
    proof: { type: 'string', value: 'file', help: 'The file of the proof. Default: prove.ts beside the app.' },
    report: { type: 'string', value: 'file', help: 'Writes a page with a timeline, which stands for itself.' },
    keep: { type: 'boolean', help: 'Keep the folder also if everything was held.' },
  },
  async run(input) {
    const { rung = '1k', app } = rungAndApp(input.positionals)
    const appFile = requireApp(app, input.cwd)
    const file = path.resolve(
      input.cwd,
      (input.values.proof as string | undefined) ?? path.join(path.dirname(appFile), fileByDefault),
    )
    const proof = existsSync(file) || input.values.proof !== undefined ? await proofIn(file, input.cwd) : undefined
    return run({ rung, appFile, proof }, input)
  },
}
export default prove

/** @throws PROOF_INVALID */
async function proofIn(file: string, cwd: string): Promise<Proof> {
  const name = path.relative(cwd, file)
  if (!existsSync(file)) throw new RungError('PROOF_INVALID', `There is no ${name}. ${advice}`)
  const module = (await import(pathToFileURL(file).href).catch((cause) => {
    throw new RungError('PROOF_INVALID', `${name} cannot be read: ${messageOf(cause)}`, { cause })
  })) as { default?: Proof }
  return checkProof(module.default, name)
}

/** @throws PROOF_INVALID */
async function pagesOf(url: string): Promise<string[]> {
  const { probes } = await askRoutes(url)
  const pages = probes.flatMap(({ path, status }) => (status < 300 && !path.includes('{') ? [path] : []))
  if (pages.length > 0) return pages
  throw new RungError('PROOF_INVALID', `${noFile}, and no page of it answers without one. ${advice}`)
}

const noFile = `There is no ${fileByDefault} beside the app`
const advice = `Write ${fileByDefault}: it names what users write and where they read it. See docs/guides/prove.md`

interface What {
  rung: string
  appFile: string
  /** Without one, pages are opened that answer. */
  proof: Proof | undefined
}

async function run({ rung, appFile, proof: given }: What, input: Input) {
  const { cwd, env, json, out, values } = input
  const note = (text: string) => void (json || out.note(text))
  const seed = numberOption(input, 'seed', { max: seedMax, otherwise: 1 + Math.floor(systemRandom() * (seedMax - 1)) })
  const minutes = Number(values.minutes ?? 2)
  if (!(minutes >= 0.1 && minutes <= 60))
    throw new RungError('COMMAND_INVALID', `--minutes must be a number from 0.1 to 60; it is "${values.minutes}".`)
  const forMs = minutes * 60_000
  // A short name: the sockets of Postgres are in it.
  const dataDir = await mkdtemp(path.join(tmpdir(), 'rung-prove-'))
  const pairs = values.pairs === true
  const again = `rung prove ${rung}${pairs ? ' --pairs' : ''}${values.faults === undefined ? '' : ` --faults ${values.faults}`} --minutes ${minutes} --seed ${seed}`
  note(`The same again: ${again}`)
  let keeps = values.keep === true
  try {
    return await interruptible(dataDir, async (over) => {
      note(`Starting ${rung} in ${dataDir}`)
      const fleet = await startFleet({ rungCommand, rung, app: appFile, dataDir, cwd, env, over })
      try {
        const proof = given ?? pagesAlone(await pagesOf(fleet.url))
        const chosen =
          values.faults === undefined
            ? faults.filter(({ problem }) => problem?.(dataDir) === undefined)
            : String(values.faults) === 'none'
              ? []
              : String(values.faults).split(',').map(faultCalled)
        const parts = await fleetParts(dataDir)
        const planned = scheduleOf({
          seed,
          forMs: faultsForMs(forMs),
          faults: chosen,
          parts,
          pairs,
        })
        let seconds = 0
        const proved = await proveFleet({
          ...{ proof, seed, forMs, planned, dataDir, over, url: fleet.url, tell: note },
          historyFile: path.join(dataDir, 'history.jsonl'),
          onSecond({ at, rate, p95, failures }) {
            seconds += 1
            if (seconds % 10 === 0)
              note(
                `${Math.round(at)} of ${forMs / 1_000} s  ${short(rate)}/s  p95 ${short(p95)} ms  ${short(failures)} failures/s`,
              )
          },
        })
        note('Checking')
        const findings = findingsOf(
          proved,
          parts,
          proof.accounts?.least === undefined ? {} : { least: proof.accounts.least },
        )
        const unreached = planned.length - proved.rounds.reduce((sum, round) => sum + round.faults.length, 0)
        const view = {
          rung,
          seed,
          minutes,
          again,
          url: fleet.url,
          schedule: planned,
          unreached,
          ...findings,
          load: proved.load,
        }
        keeps ||= !findings.held
        if (typeof values.report === 'string') await writeProofReport(path.resolve(cwd, values.report), view)
        return result(
          { ...view, ...(keeps && { folder: dataDir }) },
          () => {
            for (const line of linesOf(view)) out.line(line)
            if (typeof values.report === 'string') out.line(`\nThe report is in ${values.report}.`)
            if (!given) {
              out.line()
              for (const line of hanging('', `${noFile}, so pages were opened, and nothing was written. ${advice}`))
                out.line(line)
            }
            if (keeps) out.line(`\nHistory and logs are in ${dataDir}`)
            out.line(
              findings.held ? '\nAll promises were held.' : `\nNot all promises were held. The same again: ${again}`,
            )
          },
          findings.held ? 0 : 1,
        )
      } catch (error) {
        keeps ||= !over.aborted
        throw error
      } finally {
        await fleet.stop()
      }
    })
  } finally {
    if (!keeps) await rm(dataDir, { recursive: true, force: true, maxRetries: 10 })
  }
}

function linesOf({
  promises,
  faults,
  matrix,
  anomalies,
  operations,
  unreached,
}: Findings & { unreached: number }): string[] {
  const kinds = kindsIn(matrix)
  const word = { true: 'held', false: 'NOT HELD' }
  return [
    ...['', `${operations.toLocaleString('en')} operations`, ''],
    ...tableLines(
      [41, -15, -7, -5, 8],
      [
        ['promise', 'checked', 'found', 'max', ''],
        ...promises.map(({ promise, checked, figure, target, held }) => [
          promise,
          checked,
          figure,
          target,
          word[`${held}`],
        ]),
      ],
      ' ',
    ),
    ...(faults.length === 0
      ? []
      : [
          '',
          ...tableLines(
            [-7, 39, -7, -7, -7, 8],
            [
              ['at', 'faults', 'reads', 'writes', 'failed', ''],
              ...faults.map(({ faults: all, from, readsSilentMs, writesSilentMs, failing, effect }) => [
                inSeconds(from),
                all
                  .map(({ fault, part, error }) => `${fault} ${part}${error === undefined ? '' : ' (in vain)'}`)
                  .join(', '),
                inSeconds(readsSilentMs),
                inSeconds(writesSilentMs),
                `${short(100 * failing)} %`,
                effect,
              ]),
            ],
            ' ',
          ),
          ...hanging('', 'reads, writes: the longest time without a success; failed: of all operations meanwhile.'),
        ]),
    ...faults.flatMap(({ faults: all }) =>
      all.flatMap(({ fault, part, error }) => (error === undefined ? [] : hanging('  ', `${fault} ${part}: ${error}`))),
    ),
    ...(unreached > 0
      ? hanging('', `${unreached} planned faults did not come to their turn: the fleet took time to become whole.`)
      : []),
    ...(kinds.length === 0
      ? []
      : [
          '',
          ...tableLines(
            [16, ...kinds.map(() => 9)],
            [
              ['', ...kinds],
              ...Object.entries(matrix).map(([fault, row]) => [fault, ...kinds.map((kind) => row[kind] ?? '')]),
            ],
            ' ',
          ),
        ]),
    ...anomalies.flatMap(({ checker, text, steps }) => [
      '',
      ...hanging('', `${checker}: ${text}`),
      ...steps.flatMap((step) => hanging('  ', step)),
    ]),
  ]
}
