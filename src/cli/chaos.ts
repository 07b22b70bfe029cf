import { type Round, runSchedule, wholeWithinMs } from '../chaos/experiment.ts'
import type { Fault } from '../chaos/fault.ts'
import { checkFit, faultCalled, faults, partsInWords } from '../chaos/faults.ts'
import { injectFor } from '../chaos/inject.ts'
import { fleetParts, fleetToStrike, partsCalled, untilWhole } from '../chaos/parts.ts'
import { type FaultRecord, undoAll, undoLeft } from '../chaos/records.ts'
import { scheduleOf } from '../chaos/schedule.ts'
import { longestSilence } from '../chaos/silence.ts'
import { sleep, systemClock } from '../kernel/clock.ts'
import { isRungError, RungError } from '../kernel/errors.ts'
import { type Duration, formatMs, toMs } from '../kernel/units.ts'
import { type Command, hanging, type Input, type Result, result, settingOptions } from './command.ts'
import { faultsChosen, seedChosen } from './fault-options.ts'
import { dataDirOfInput } from './input-settings.ts'
import { interruptible } from './interruptible.ts'
import { tableLines } from './table.ts'

const chaos: Command = {
  name: 'chaos',
  summary: 'break parts of a running fleet on purpose',
  usage: 'rung chaos [list] | clear | <fault> <part> | <fault> zone <name> | run [options]',
  wordsMax: 3,
  help: [
    'Injects faults into the "rung up" of this data directory, looks whether each has taken',
    'effect, and undoes it. A part is a name of "rung ps"; primary and replica are servers',
    'of the database, whichever they are at that moment.',
    '',
    '  list   lists the faults, and what one should see',
    '  run    injects faults at times that come from a seed, to be repeated;',
    '         exits with 1 if one had no effect, or parts did not come back',
    '  clear  ends every "rung chaos" of this data directory, and undoes what is left',
    '',
    'A fault ends with this command, however that ends: after --for, by Ctrl-C, or when it',
    'is killed. Refused in production mode (NODE_ENV), which is the default of "rung up".',
  ].join('\n'),
  examples: [
    'rung chaos stop primary --for 10s',
    'rung chaos squeeze-cpu web-1 --with 0.1',
    'rung chaos run --seed 7 --for 2m --pairs',
  ],
  options: {
    for: { type: 'string', value: 'time', help: 'How long a fault lasts, or a run. Default: 10s, a run 1m.' },
    with: { type: 'string', value: 'strength', help: 'How strong it is; its default is in the list.' },
    seed: { type: 'string', value: 'number', help: 'Of a run. Default: a new one.' },
    faults: {
      type: 'string',
      value: 'names',
      help: 'Of a run, separated by commas. Default: all that are possible here.',
    },
    pairs: { type: 'boolean', help: 'In a run: two faults at a time.' },
    plan: { type: 'boolean', help: 'Show the schedule of a run, and inject nothing.' },
    ...settingOptions('process.dataDir'),
  },
  async run(input) {
    const [verb = 'list', ...words] = input.positionals
    const dataDir = dataDirOfInput(input)
    if (verb !== 'clear') await undoLeft(dataDir)
    if (verb === 'list' && words.length === 0) return list(input)
    if (verb === 'clear' && words.length === 0) return cleared(await undoAll(dataDir), input)
    if (verb === 'run' && words.length === 0) return run(dataDir, input)
    for (const name of ['seed', 'faults', 'pairs', 'plan']) {
      if (input.values[name] !== undefined) throw invalid(`--${name} is for: rung chaos run`)
    }
    return byHand(faultCalled(verb), words, dataDir, input)
  },
}
export default chaos

const nameWidth = 18

function list({ out }: Input): Result {
  const view = faults.map(({ name, does, shows, on, lasts, strength }) => {
    return { fault: name, does, shows, parts: on, lasts, with: strength?.default }
  })
  return result(view, () => {
    for (const { name, does, shows, on, lasts, strength } of faults) {
      for (const line of hanging(name.padEnd(nameWidth), `${does}.`)) out.line(line)
      const facts = [
        `on: ${partsInWords(on)}`,
        ...(lasts ? [] : ['happens once']),
        ...(strength ? [`--with ${strength.default} (${strength.help})`] : []),
      ]
      const indent = ' '.repeat(nameWidth)
      for (const line of [...hanging(indent, shows), ...hanging(indent, facts.join('; '))]) out.line(line)
    }
  })
}

function cleared(records: readonly FaultRecord[], { out }: Input): Result {
  const view = { undone: records.map(({ fault, part, since }) => ({ fault, part, since })) }
  return result(view, ({ undone }) => {
    if (undone.length === 0) out.line('No fault was in force.')
    for (const { fault, part } of undone) out.line(`Undone: ${fault} of ${part}.`)
  })
}

const forDefault: Duration = '10s'
/** One fault, injected by hand. */
async function byHand(fault: Fault, words: readonly string[], dataDir: string, input: Input): Promise<Result> {
  const { out, values } = input
  const forMs = toMs((values.for ?? forDefault) as Duration)
  if (values.for !== undefined && !fault.lasts) throw invalid(`${fault.name} happens once, so --for does not fit it.`)
  if (values.with !== undefined && !fault.strength)
    throw invalid(`${fault.name} has no strength, so --with does not fit it.`)
  if (words.length !== (words[0] === 'zone' ? 2 : 1)) {
    throw invalid(`Name one part, or a zone, for example: rung chaos ${fault.name} web-1. See: rung ps`)
  }
  await fleetToStrike(dataDir)
  const parts = partsCalled(await fleetParts(dataDir), words)
  for (const part of parts) checkFit(fault, part)
  const strength = String(values.with ?? fault.strength?.default ?? '')

  return interruptible(dataDir, async (over) => {
    const { injected, heldMs } = await injectFor(fault, parts, { strength, dataDir, forMs, over }, (part, did) => {
      out.note(`${fault.name} ${part.name}: ${did}${fault.lasts ? `, for ${formatMs(forMs)}` : ''}`)
    }).catch((error) => {
      throw isRungError(error, 'CONFIG_INVALID') ? invalid(`--with: ${error.message}`) : error
    })
    const wholeAfterMs = await untilWhole(dataDir, wholeWithinMs, over)
    const view = { fault: fault.name, parts: injected, heldMs, wholeAfterMs: wholeAfterMs ?? null }
    return result(
      view,
      () => {
        out.line(fault.lasts ? `Undone after ${formatMs(heldMs)}.` : 'Done.')
        if (wholeAfterMs !== undefined) out.line(`All parts ran again ${formatMs(Math.max(1, wholeAfterMs))} later.`)
        else out.line(`Not all parts run again. See: rung ps`)
      },
      wholeAfterMs === undefined && !over.aborted ? 1 : 0,
    )
  })
}

const runForDefault: Duration = '1m'

/** Many faults, by a schedule. */
async function run(dataDir: string, input: Input): Promise<Result> {
  const { out, values } = input
  if (values.with !== undefined) throw invalid('A run uses the default strengths, so --with does not fit it.')
  const seed = seedChosen(input)
  const forText = (values.for ?? runForDefault) as Duration
  const chosen = await faultsChosen(input, dataDir)
  const { url } = await fleetToStrike(dataDir)
  const pairs = values.pairs === true
  const parts = await fleetParts(dataDir)
  const planned = scheduleOf({ seed, forMs: toMs(forText), faults: chosen, parts, pairs })
  const more = `${pairs ? ' --pairs' : ''}${values.faults === undefined ? '' : ` --faults ${values.faults}`}`
  const head = `Seed ${seed}, ${planned.length} faults. To repeat it: rung chaos run --seed ${seed} --for ${forText}${more}`
  if (values.plan) {
    return result({ seed, schedule: planned }, () => {
      out.line(head)
      for (const line of timeline(planned.map((one) => ({ faults: [one] })))) out.line(line)
    })
  }
  out.note(head)
  return interruptible(dataDir, async (over) => {
    const client = watchAnswers(url)
    const began = systemClock.ticks()
    const ran = await runSchedule(planned, { dataDir, began, over, tell: out.note }).finally(client.end)
    const answers = client.answers.map((at) => at - began)
    const rounds = ran.map((round) => {
      return { ...round, silentMs: longestSilence(answers, round.beganAtMs, round.endedAtMs) }
    })
    const outcomes = rounds.flatMap((round) => round.faults)
    const failed = outcomes.filter(({ error }) => error !== undefined)
    const isWhole = rounds.every(({ wholeAfterMs }) => wholeAfterMs !== null)
    const view = { seed, schedule: planned, rounds, failed: failed.length, whole: isWhole }
    return result(
      view,
      () => {
        for (const line of timeline(rounds)) out.line(line)
        const effect = `${outcomes.length - failed.length} of ${planned.length} faults took effect`
        out.line(
          `${effect}, and all are undone. ${isWhole ? 'All parts run.' : 'Not all parts run again. See: rung ps'}`,
        )
      },
      over.aborted || (isWhole && failed.length === 0) ? 0 : 1,
    )
  })
}

const widths = [-6, nameWidth, 12, -7, -8, -8]

/** One line for each fault; the last one of a round that was run also says what came of it. */
function timeline(rounds: readonly (Pick<Round, 'faults'> & Partial<Round> & { silentMs?: number })[]): string[] {
  const wholeIn = (ms: number | null | undefined) =>
    ms === null ? 'no' : ms === undefined ? '' : formatMs(Math.max(1, ms))
  const lines = rounds.flatMap(({ faults, wholeAfterMs, silentMs }) =>
    faults.flatMap(({ atMs, fault, part, forMs, error }, index) => {
      const isLast = index === faults.length - 1
      const outcome = isLast ? [wholeIn(wholeAfterMs), wholeIn(silentMs)] : ['', '']
      const cells = [formatMs(atMs), fault, part, forMs === 0 ? '' : formatMs(forMs), ...outcome]
      return [...tableLines(widths, [cells]), ...(error === undefined ? [] : hanging('        ', error))]
    }),
  )
  const ran = rounds.some(({ silentMs }) => silentMs !== undefined)
  return [...tableLines(widths, [['at', 'fault', 'part', 'for', ...(ran ? ['whole', 'silent'] : ['', ''])]]), ...lines]
}

const askEveryMs = 50
const answerWithinMs = 2_000

/**
 * Asks a fleet again and again, as a client does, and notes when it has answered. Each question has an address of its own, so that a process
 * answers it and no cache does; that it is not found is an answer too.
 */
function watchAnswers(url: string): { answers: readonly number[]; end(): void } {
  const ending = new AbortController()
  const answers: number[] = []
  async function ask(count: number): Promise<void> {
    const late = AbortSignal.timeout(answerWithinMs)
    const ok = await fetch(`${url}/?rung-chaos=${count}`, { signal: AbortSignal.any([late, ending.signal]) }).then(
      async (answer) => {
        await answer.body?.cancel()
        return answer.status < 500
      },
      () => false,
    )
    if (ok) answers.push(systemClock.ticks())
  }
  const asking = (async () => {
    for (let count = 1; ; count += 1) {
      await ask(count)
      await sleep(askEveryMs, ending.signal)
    }
  })()
  asking.catch(() => {}) // it ends by its signal
  return { answers, end: () => ending.abort() }
}

function invalid(message: string): RungError {
  return new RungError('COMMAND_INVALID', message)
}
