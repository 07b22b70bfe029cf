import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { RungError } from '../kernel/errors.ts'
import { systemRandom } from '../kernel/random.ts'
import type { Kept } from '../stateless/finding.ts'
import { lookAtSources } from '../stateless/look.ts'
import { readJsonLines } from '../testing/json-lines.ts'
import { asFailedTest, type FailedTest, failuresOf } from '../testing/reporter.ts'
import { type NodesNote, notesName, seedName } from '../testing/second-node.ts'
import { settings } from '../topology/settings.ts'
import { type Input, numberOption, type Result, result } from './command.ts'
import { placesFrom } from './kept-notes.ts'
import { printByFile, runReported, type TestRun } from './test-run.ts'

const seedMax = 999_999_999

export interface NodesView {
  files: readonly string[]
  passed: boolean
  nodes: 2
  seed: number
  /** Tests that pass on one node and fail on two. */
  onlyOnTwo: readonly FailedTest[]
  /** Tests that fail on one node too. */
  broken: readonly FailedTest[]
  /** What the apps keep in one process, found in their sources. */
  kept: readonly Kept[]
  /** How many apps of tests ran on two nodes. */
  appsOnTwo: number
  /** Apps of tests that ran on one node both times, and why. */
  alone: readonly NodesNote[]
}

/**
 * The seed of a run on two nodes, or nothing for one node.
 * @throws CONFIG_INVALID
 */
export function seedOf(input: Input): number | undefined {
  const { nodes, seed } = input.values
  if (numberOption(input, 'nodes', { max: 2, otherwise: 1 }) === 2) {
    return numberOption(input, 'seed', { max: seedMax, otherwise: 1 + Math.floor(systemRandom() * seedMax) })
  }
  if (seed === undefined) return undefined
  throw new RungError(
    'CONFIG_INVALID',
    `--seed is for --nodes 2; ${nodes === undefined ? 'that is missing' : 'there is one node'}.`,
  )
}

/** Runs tests on one node, then on two, and compares. */
export async function runOnNodes(
  seed: number,
  environment: Readonly<Record<string, string>>,
  run: TestRun,
): Promise<Result> {
  const { files, input, say, isStopped } = run
  const { cwd } = input
  const folder = await mkdtemp(path.join(tmpdir(), 'rung-test-'))
  try {
    await writeFile(path.join(folder, seedName), String(seed))
    say('On one node:')
    const one = await runReported(environment, run)
    const stopped = () => result({ files, passed: false, nodes: 2, seed }, () => {}, 1) // nothing can be compared
    if (isStopped()) return stopped()
    say(`On two nodes, each request on one of them (--seed ${seed}):`)
    const two = await runReported({ ...environment, [settings.process.testNodes.variable]: folder }, run)
    if (isStopped()) return stopped()
    const notes = notesIn(folder)
    const alone = notes.filter(({ problem }) => problem !== undefined)
    const view: NodesView = {
      ...{ files, passed: one.code === 0 && two.code === 0, nodes: 2, seed },
      onlyOnTwo: failuresOf(two.outcomes, one.outcomes).only.map(asFailedTest),
      broken: failuresOf(one.outcomes, []).only.map(asFailedTest),
      kept: await keptBy(notes, cwd),
      appsOnTwo: notes.length - alone.length,
      alone: alone.map((note) => ({ ...note, file: path.relative(cwd, note.file) })),
    }
    return result(view, () => print(view, input), one.code === 0 ? two.code : one.code)
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

/** An app that a file starts again and again is one. */
function notesIn(folder: string): NodesNote[] {
  const notes = readJsonLines<NodesNote>(path.join(folder, notesName))
  return [...new Map(notes.map((note) => [JSON.stringify(note), note])).values()]
}

async function keptBy(notes: readonly NodesNote[], cwd: string): Promise<Kept[]> {
  const apps = [...new Set(notes.flatMap(({ appFile }) => appFile ?? []))]
  const found = await lookAtSources(...apps)
  return found.filter(({ severity }) => severity !== 'note').map((kept) => placesFrom(cwd, kept))
}

function print({ onlyOnTwo, broken, kept, appsOnTwo, alone, passed, seed }: NodesView, { out }: Input): void {
  if (onlyOnTwo.length > 0) {
    out.line(`These tests pass on one node and fail on two (--seed ${seed}):`)
    out.line()
    printByFile(onlyOnTwo, out, ({ error }) => (error === undefined ? [] : [error]))
    out.line()
    if (kept.length === 0) for (const text of unseen) out.line(text)
    else out.line('What the app keeps in one process:')
    for (const { file, line, what } of kept) for (const text of [`  ${file}:${line}`, `    ${what}`]) out.line(text)
    if (kept.length > 0) out.line('What to do about it: rung doctor')
  }
  if (broken.length > 0) {
    if (onlyOnTwo.length > 0) out.line()
    out.line('These tests fail on one node too:')
    out.line()
    printByFile(broken, out, () => [])
  }
  if (passed) {
    out.line(appsOnTwo > 0 ? 'All tests pass on one node and on two.' : 'All tests pass. No app ran on two nodes.')
  }
  for (const { app, file, problem } of alone) {
    out.line(`"${app}" of ${file} ran on one node only. ${problem}`)
  }
}

const unseen = [
  'The sources show nothing that the app keeps in one process. Perhaps the test does: what',
  'it replaces in its own process, such as fetch, is not replaced in the second node.',
]
