import { existsSync } from 'node:fs'
import { mkdir, mkdtemp, open, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { pathToFileURL } from 'node:url'
import type { Fault } from '../chaos/fault.ts'
import { fleetParts, fleetToStrike } from '../chaos/parts.ts'
import { isRungError, messageOf, RungError } from '../kernel/errors.ts'
import { askRoutes } from '../load/ask-routes.ts'
import { short } from '../load/report.ts'
import { draftProof } from '../prove/draft.ts'
import { type Findings, findingsOf } from '../prove/findings.ts'
import { startFleet } from '../prove/fleet.ts'
import { checkProof, type Proof, pagesAlone, proofFile } from '../prove/proof.ts'
import { writeProofReport } from '../prove/report.ts'
import { faultsOf, prove as proveFleet } from '../prove/run.ts'
import { faultRows, faultWords, inVain, matrixRows, promiseRows, type Rows } from '../prove/tables.ts'
import { requireApp } from '../runtime/load-app.ts'
import { type Command, hanging, type Input, result } from './command.ts'
import { askForDraft } from './draft-file.ts'
import { faultsChosen, seedChosen } from './fault-options.ts'
import { dataDirOfInput, rungAndApp } from './input-settings.ts'
import { interruptible, rungCommand } from './interruptible.ts'
import { noteProof } from './proved.ts'
import { tableLines } from './table.ts'

const prove: Command = {
  name: 'prove',
  summary: 'try out what the app promises, while parts of a fleet fail',
  usage: 'rung prove [rung] [app-file] [options] | rung prove init [proof-file]',
  help: [
    'Starts a fleet of its own with an empty database, in a temporary folder. Opens sessions that',
    'write and read as the proof says (prove.ts beside the app), injects faults meanwhile, and',
    'checks what each session saw: a verdict for each promise, and what each fault did.',
    '',
    'Without prove.ts it opens pages that answer, and checks that they go on to. The exit code',
    'then says less: write the file.',
    '',
    'The seed repeats it: the same faults at the same times, and the same choices. Exits with 1 if',
    'a promise was not held, or there is no verdict (PROOF_FAILED); then the folder is kept, with',
    'the history and all logs.',
    '',
    '"rung prove init" writes a first prove.ts from the OpenAPI document of the app that runs.',
  ].join('\n'),
  settings: [],
  examples: [
    'rung prove 100k',
    'rung prove 10k --minutes 10 --seed 7 --report docs/reports/proof.html',
    'rung prove 100k --faults kill,freeze',
    'rung prove init && rung prove',
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
    force: { type: 'boolean', help: 'init: replace a file that is there.' },
  },
  async run(input) {
    const { cwd, values, positionals } = input
    if (positionals[0] === 'init') return init(input, positionals[1] ?? proofFile)
    const { rung, app } = rungAndApp(positionals)
    const appFile = requireApp(app, cwd)
    const file = path.resolve(cwd, (values.proof as string | undefined) ?? path.join(path.dirname(appFile), proofFile))
    const proof = existsSync(file) || values.proof !== undefined ? await proofIn(file, cwd) : undefined
    const minutes = Number(values.minutes ?? 2)
    if (!(minutes >= 0.1 && minutes <= 60))
      throw new RungError('COMMAND_INVALID', `--minutes must be a number from 0.1 to 60; it is "${values.minutes}".`)
    const chosen = values.faults === 'none' ? [] : await faultsChosen(input, tmpdir())
    const report = typeof values.report === 'string' ? await writable(values.report, cwd) : undefined
    return run({ rung, appFile, proof, seed: seedChosen(input), minutes, chosen, report }, input)
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

const noFile = `There is no ${proofFile} beside the app`
const advice = `Write ${proofFile}, or let "rung prove init" draft it: it names what users write and where they read it. See docs/guides/prove.md`

async function init(input: Input, name: string) {
  const { file, url, document, probes } = await askForDraft(input, name)
  const { text, drafted, left } = draftProof(document, probes, url)
  await writeFile(file, text)
  return result({ file: name, url, drafted, left }, () => {
    input.out.line(
      `Wrote ${name}, which tries out ${drafted} of ${drafted + left} ways to write. Look whether it says what your app promises.`,
    )
    input.out.line('Run it with: rung prove')
  })
}

/** Looks before a proof whether its report can be written. @throws COMMAND_INVALID */
async function writable(name: string, cwd: string): Promise<string> {
  const file = path.resolve(cwd, name)
  await mkdir(path.dirname(file), { recursive: true }).catch(() => {})
  const handle = await open(file, 'a').catch((cause) => {
    throw new RungError('COMMAND_INVALID', `--report ${name} cannot be written: ${messageOf(cause)}`, { cause })
  })
  await handle.close()
  return file
}

interface What {
  rung: string | undefined
  appFile: string
  /** Without one, pages are opened that answer. */
  proof: Proof | undefined
  seed: number
  minutes: number
  chosen: readonly Fault[]
  report: string | undefined
}

async function run(what: What, input: Input) {
  // A short name: the sockets of Postgres are in it.
  const dataDir = await mkdtemp(path.join(tmpdir(), 'rung-prove-'))
  let keeps = input.values.keep === true
  try {
    return await interruptible(dataDir, async (over) => {
      try {
        const outcome = await proveIn(dataDir, what, input, over)
        keeps ||= outcome.exitCode !== 0
        return outcome
      } catch (error) {
        const isOfInput = isRungError(error, 'COMMAND_INVALID') || isRungError(error, 'PROOF_INVALID')
        if (over.aborted || isOfInput) throw error
        keeps = true
        throw keptIn(dataDir, error)
      }
    })
  } finally {
    if (!keeps) await rm(dataDir, { recursive: true, force: true, maxRetries: 10 })
  }
}

function keptIn(folder: string, error: unknown): RungError {
  const text = `${messageOf(error).replace(/\.?$/, '.')} Its folder is kept: ${folder}`
  const known = isRungError(error) ? error : undefined
  return new RungError(known?.code ?? 'PROOF_FAILED', text, { cause: error, facts: { ...known?.facts, folder } })
}

async function proveIn(dataDir: string, what: What, input: Input, over: AbortSignal) {
  const { appFile, proof: given, seed, minutes, chosen, report } = what
  const { cwd, env, json, out, values } = input
  const note = (text: string) => void (json || out.note(text))
  const forMs = minutes * 60_000
  const command = commandOf(what, input)
  note(`To repeat it: ${command}`)
  note(`Starting a fleet in ${dataDir}`)
  const fleet = await startFleet({ rungCommand, rung: what.rung, app: appFile, dataDir, cwd, env, over })
  try {
    const proof = given ?? pagesAlone(await pagesOf(fleet.url))
    const [{ rung }, parts] = await Promise.all([fleetToStrike(dataDir), fleetParts(dataDir)])
    const planned = faultsOf({ seed, forMs, faults: chosen, parts, pairs: values.pairs === true })
    let seconds = 0
    const proved = await proveFleet({
      ...{ proof, seed, forMs, planned, dataDir, over, url: fleet.url, tell: note },
      historyFile: path.join(dataDir, 'history.jsonl'),
      onSecond({ at, rate, p95, failures }) {
        seconds += 1
        if (seconds % 10 !== 0) return
        const figures = `${short(rate)}/s  p95 ${short(p95)} ms  ${short(failures)} failures/s`
        note(`${Math.round(at)} of ${forMs / 1_000} s  ${figures}`)
      },
    })
    note('Checking')
    const findings = findingsOf(proved, parts, proof)
    const { held } = findings
    const unreached = planned.length - proved.rounds.reduce((sum, round) => sum + round.faults.length, 0)
    const facts = { rung, seed, minutes, command, url: fleet.url, schedule: planned, unreached }
    const view = { ...facts, ...findings, load: proved.load }
    if (report !== undefined) await writeProofReport(report, view)
    await noteProof(dataDirOfInput(input), { rung, held, wrote: given !== undefined })
    const isKept = !held || values.keep === true
    return result(
      { ...view, ...(isKept && { folder: dataDir }) },
      () => {
        for (const line of linesOf(view)) out.line(line)
        if (report !== undefined) out.line(`\nThe report is in ${values.report}.`)
        if (!given) {
          out.line()
          for (const line of hanging('', `${noFile}, so pages were opened, and nothing was written. ${advice}`))
            out.line(line)
        }
        if (isKept) out.line(`\nHistory and logs are in ${dataDir}`)
        out.line(held ? '\nAll promises were held.' : `\nNot all promises were held. To repeat it: ${command}`)
      },
      held ? 0 : 1,
    )
  } finally {
    await fleet.stop()
  }
}

/** The command line that repeats a proof. */
function commandOf({ rung, appFile, seed, minutes }: What, { cwd, values: { proof, faults, pairs } }: Input): string {
  return [
    ...['rung prove', ...(rung === undefined ? [] : [rung]), path.relative(cwd, appFile)],
    ...(proof === undefined ? [] : [`--proof ${proof}`]),
    ...(faults === undefined ? [] : [`--faults ${faults}`]),
    ...(pairs ? ['--pairs'] : []),
    `--minutes ${minutes} --seed ${seed}`,
  ].join(' ')
}

function linesOf(view: Findings & { unreached: number }): string[] {
  const { faults, anomalies, operations, unreached } = view
  const [struck, matrix] = [faultRows(view), matrixRows(view)]
  const table = (widths: readonly number[], { heads, rows }: Rows) =>
    rows.length === 0 ? [] : ['', ...tableLines(widths, [heads, ...rows], ' ')]
  return [
    ...['', `${operations.toLocaleString('en')} operations`],
    ...table([41, -15, -7, -5, 8], promiseRows(view)),
    ...table([-7, 31, -7, -7, -7, -7, 8], struck),
    ...(struck.rows.length > 0 ? hanging('', faultWords) : []),
    ...inVain(faults).flatMap((text) => hanging('  ', text)),
    ...(unreached > 0
      ? hanging(
          '',
          `${unreached === 1 ? '1 planned fault did' : `${unreached} planned faults did`} not come to ${unreached === 1 ? 'its' : 'their'} turn: the fleet took time to become whole.`,
        )
      : []),
    ...table([16, ...matrix.heads.slice(1).map(() => 9)], matrix),
    ...anomalies.flatMap(({ checker, text, steps }) => [
      '',
      ...hanging('', `${checker}: ${text}`),
      ...steps.flatMap((step) => hanging('  ', step)),
    ]),
  ]
}
