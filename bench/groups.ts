import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { runLoadInThreads } from '../src/load.ts'
import type { Bench } from './run.ts'
import type { CallsLoad } from './support/calls-load.ts'
import type { GroupsLoad } from './support/groups-load.ts'
import { end, firstDocument, seed, startNode } from './support/processes.ts'
import { inWords, machineFacts, progress, rounded, spread, table } from './support/report.ts'
import { logIn, sceneOf } from './support/scene.ts'

const articles = 2_000
const load = { seconds: 15, rate: 100 }
const ofCalls = { seconds: 8, rate: 200 }
/** What a call over HTTP may add at p50 on one machine, ms; and the p95 of the core beside that of one without groups. */
const targets = { callMs: 0.3, p95: 1.1 }
/** The hard case: every request asks it. */
const nodes = JSON.stringify({ accounts: { modules: ['identity'], web: 1 } })

interface Up {
  url: string
}

/**
 * A call that does nothing, beside a request without it, in one fleet. And Conduit twice, once with `identity` on nodes of its own: both
 * answer the same signed-in requests, in turn, each with three calls that are kept.
 */
const bench: Bench = {
  claim:
    'with identity, which every request asks, on nodes of its own, the p95 of the core is at most 1.1 of what it was',
  async run({ json, rounds = 6 }) {
    const dir = await mkdtemp(path.join(tmpdir(), 'rung-bench-groups-'))
    const callMs = await oneCall(path.join(dir, 'calls'), rounds).catch(async (error) => {
      await rm(dir, { recursive: true, force: true })
      throw error
    })
    if (!json) progress(`a call adds ${inWords(rounded(spread(callMs)))} ms at p50 (target ${targets.callMs})`)
    const conduit = 'examples/conduit/app.ts'
    const started = [
      up(conduit, path.join(dir, 'whole'), {}),
      up(conduit, path.join(dir, 'split'), { RUNG_NODES: nodes }),
    ]
    try {
      const [whole, split] = await Promise.all(started.map((one) => firstDocument<Up>(one)))
      for (const name of ['whole', 'split']) await seed(path.join(dir, name), articles)
      const asked: GroupsLoad[] = []
      let postgres = ''
      for (const [name, { url }] of [
        ['whole', whole!],
        ['split', split!],
      ] as const) {
        const scene = await sceneOf(path.join(dir, name))
        postgres = scene.postgres
        asked.push({
          url,
          slugs: scene.slugs.slice(0, 500),
          tokens: await logIn(url, scene.viewers.slice(0, 20)),
          ...load,
        })
      }
      for (const one of asked) await measure(one) // code is compiled, caches are filled
      const rows: { p50: number[]; p95: number[] }[] = [
        { p50: [], p95: [] },
        { p50: [], p95: [] },
      ]
      for (let round = 0; round < rounds; round += 1) {
        for (const which of round % 2 === 0 ? [0, 1] : [1, 0]) {
          const { p50, p95 } = await measure(asked[which]!)
          rows[which]!.p50.push(p50)
          rows[which]!.p95.push(p95)
        }
        if (!json) progress(`  round ${round + 1} of ${rounds}`)
      }
      const differences = rows[0]!.p50.map((before, n) => rows[1]!.p50[n]! - before)
      const ratios = rows[0]!.p95.map((before, n) => rows[1]!.p95[n]! / before)
      const result = {
        whole: { p50Ms: rounded(spread(rows[0]!.p50)), p95Ms: rounded(spread(rows[0]!.p95)) },
        split: { p50Ms: rounded(spread(rows[1]!.p50)), p95Ms: rounded(spread(rows[1]!.p95)) },
        callMs: rounded(spread(callMs)),
        addedMs: rounded(spread(differences)),
        p95Ratio: rounded(spread(ratios)),
      }
      if (!json) {
        const { whole: one, split: other, addedMs, p95Ratio } = result
        progress(
          table([
            ['', 'p50 ms', 'p95 ms'],
            ['in one process', inWords(one.p50Ms), inWords(one.p95Ms)],
            ['identity apart', inWords(other.p50Ms), inWords(other.p95Ms)],
          ]),
        )
        progress(`added at p50: ${inWords(addedMs)} ms; p95: × ${inWords(p95Ratio)} (target ${targets.p95})`)
      }
      if (result.p95Ratio.median > targets.p95)
        throw new Error(`the p95 of the core is ${result.p95Ratio.median} of what it was`)
      return { claim: bench.claim, facts: machineFacts(postgres), targets, load, ...result }
    } finally {
      await Promise.all(started.map(end))
      await rm(dir, { recursive: true, force: true })
    }
  },
}
export default bench

function up(app: string, dataDir: string, more: Record<string, string>) {
  const env = {
    RUNG_DATA: dataDir,
    NODE_ENV: 'production',
    RUNG_EDGE: 'off',
    RUNG_WEB: '1',
    RUNG_REPLICAS: '0',
    ...more,
  }
  return startNode(['--conditions=rung-source', 'src/cli/bin.js', 'up', '100k', app, '--json', '--port', '0'], env)
}

/** How much longer a request takes at p50 with one call that does nothing, in ms, for each round. */
async function oneCall(dataDir: string, rounds: number): Promise<number[]> {
  const apart = JSON.stringify({ apart: { modules: ['echo'], web: 1 } })
  const fleet = up('bench/support/calls-app.ts', dataDir, { RUNG_NODES: apart })
  try {
    const { url } = await firstDocument<Up>(fleet)
    const added: number[] = []
    for (let round = 0; round <= rounds; round += 1) {
      const input: CallsLoad = { url, ...ofCalls }
      const { all, routes } = await runLoadInThreads(new URL('./support/calls-load.ts', import.meta.url), input)
      if (Object.keys(all.failures).length > 0) throw new Error(`requests ended as ${Object.keys(all.failures)}`)
      const p50 = (route: string) => routes.get(route)!.latency.at(0.5)
      if (round > 0) added.push(p50('calling') - p50('alone')) // the first one compiles the code
    }
    return added
  } finally {
    await end(fleet)
  }
}

async function measure(input: GroupsLoad): Promise<{ p50: number; p95: number }> {
  const { all } = await runLoadInThreads(new URL('./support/groups-load.ts', import.meta.url), input)
  const failed = Object.keys(all.failures)
  if (failed.length > 0) throw new Error(`${input.url}: requests ended as ${failed}`)
  return { p50: all.latency.at(0.5), p95: all.latency.at(0.95) }
}
