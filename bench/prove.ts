import { spawnSync } from 'node:child_process'
import type { Findings } from '../src/prove/findings.ts'
import { keptSeeds, type ProofSeed } from '../test/support/proof-seeds.ts'
import type { Bench } from './run.ts'
import { root } from './support/processes.ts'
import { machineFacts, progress, table } from './support/report.ts'

const minutesDefault = 10

interface Proof extends ProofSeed {
  held: boolean
  notHeld: readonly string[]
  rounds: number
  operations: number
  readsSilentMs: number
  writesSilentMs: number
  error?: string
}

/** `rung prove 100k` on both reference apps, again and again, alternately with single faults and with pairs; first the seeds that have failed before. */
const bench: Bench = {
  claim: 'while parts of rung 100k fail, everything that was promised is held',
  async run({ json, rounds = 10 }) {
    const seeds: ProofSeed[] = [...keptSeeds]
    for (let seed = 1; seed <= rounds; seed += 1) {
      const app = seed % 5 === 0 ? 'shop' : 'conduit'
      seeds.push({ rung: '100k', app, seed, minutes: minutesDefault, pairs: seed % 2 === 0, faults: undefined })
    }
    const proofs: Proof[] = []
    for (const one of seeds) {
      const proof = proveOnce(one)
      proofs.push(proof)
      const { held, notHeld, rounds, operations } = proof
      const verdict = held ? 'held' : `NOT HELD: ${notHeld.join('; ')}`
      if (!json)
        progress(`${one.rung} ${one.app} seed ${one.seed}: ${rounds} rounds, ${operations} operations, ${verdict}`)
    }
    if (!json) {
      const rows = proofs.map(({ rung, app, seed, pairs, rounds, operations, readsSilentMs, writesSilentMs, held }) => {
        const figures = [seed, rounds, operations, readsSilentMs, writesSilentMs].map(String)
        return [`${rung} ${app}${pairs ? ', pairs' : ''}`, ...figures, held ? 'held' : 'NOT HELD']
      })
      progress(table([['', 'seed', 'rounds', 'operations', 'reads silent ms', 'writes silent ms', ''], ...rows]))
    }
    if (proofs.some(({ held }) => !held)) process.exitCode = 1
    return { claim: bench.claim, facts: machineFacts('18'), proofs }
  },
}
export default bench

function proveOnce(one: ProofSeed): Proof {
  const { rung, app, seed, minutes, pairs, faults } = one
  const { stdout, stderr } = spawnSync(
    process.execPath,
    [
      ...['--conditions=rung-source', 'src/cli/bin.js', 'prove', rung, `examples/${app}/app.ts`, '--json'],
      ...['--seed', String(seed), '--minutes', String(minutes), ...(pairs ? ['--pairs'] : [])],
      ...(faults === undefined ? [] : ['--faults', faults]),
    ],
    { cwd: root, encoding: 'utf8', maxBuffer: 2 ** 28 },
  )
  const found = JSON.parse(stdout || '{}') as Partial<Findings> & { error?: { message: string } }
  const { held = false, promises = [], faults: struck = [], operations = 0 } = found
  const most = (of: 'readsSilentMs' | 'writesSilentMs') => Math.max(0, ...struck.map((each) => each[of] - each.downMs))
  const error = found.error?.message ?? (found.promises ? undefined : stderr.slice(-500))
  return {
    ...one,
    held,
    notHeld: [
      ...promises.flatMap(({ promise, held, figure }) => (held === false ? [`${promise} (${figure})`] : [])),
      ...(error === undefined ? [] : [error]),
    ],
    ...{ rounds: struck.length, operations },
    ...{ readsSilentMs: most('readsSilentMs'), writesSilentMs: most('writesSilentMs') },
    ...(error !== undefined && { error }),
  }
}
