import { plants } from '../test/plants/plants.ts'
import { runPlant, runSound } from '../test/plants/runner.ts'
import { type WorkloadName, workloads } from '../test/plants/workload.ts'
import { testPostgres } from '../test/support/postgres.ts'
import type { Bench } from './run.ts'
import { machineFacts, progress, table } from './support/report.ts'

/** The processes and engines of the workload are started within it too. */
const caughtWithinMs = 60_000

const inSeconds = (ms: number) => Number((ms / 1_000).toFixed(1))

const bench: Bench = {
  claim: `each planted fault is found by its checker within ${caughtWithinMs / 1_000} s, and nothing on the sound build (it fails otherwise)`,
  async run({ json, seeds = 50, only }) {
    const chosen = plants.filter(({ name }) => only === undefined || name === only)
    if (chosen.length === 0) throw new Error(`There is no plant "${only}".`)
    const postgres = await testPostgres()
    const caught = []
    const sound = []
    try {
      for (const plant of chosen) {
        const ran = await runPlant(plant, postgres, { seeds: 1_000, withinMs: caughtWithinMs })
        const { name, workload, caughtBy } = plant
        const isCaught = ran.isCaught && ran.ms < caughtWithinMs
        const { found = [] } = ran.reports.at(-1) ?? {}
        const told = found.find(({ checker }) => caughtBy.includes(checker))
        caught.push({
          name,
          workload,
          isCaught,
          by: told?.checker,
          alsoBy: found.filter((one) => one !== told).map(({ checker }) => checker),
          histories: ran.reports.length,
          seconds: inSeconds(ran.ms),
          text: told?.text,
        })
        if (!json) progress([`${name}: ${told?.text ?? 'NOT CAUGHT'}`, ...(told?.told ?? [])].join('\n  '))
      }
      for (const workload of only === undefined ? (Object.keys(workloads) as WorkloadName[]) : []) {
        const { reports, ms } = await runSound(workload, seeds, postgres)
        const anomalies = reports.flatMap(({ seed, found }) => found.map((one) => ({ seed, ...one })))
        const checked = reports.flatMap((report) => Object.values(report.checked)).reduce((sum, one) => sum + one, 0)
        sound.push({ workload, seeds: reports.length, checked, anomalies, seconds: inSeconds(ms) })
        if (!json) progress(`sound ${workload}, ${reports.length} seeds: ${anomalies.length} anomalies`)
      }
    } finally {
      await postgres.stop()
    }
    if (!json) {
      const rows = caught.map(({ name, by, isCaught, seconds }) => [name, isCaught ? by! : 'NOT CAUGHT', `${seconds}`])
      progress(table([['plant', 'found by', 's'], ...rows]))
      const soundRows = sound.map((one) => [one.workload, one.seeds, one.checked, one.anomalies.length].map(String))
      progress(table([['sound build', 'seeds', 'answers checked', 'anomalies'], ...soundRows]))
    }
    if (!caught.every(({ isCaught }) => isCaught) || sound.some(({ anomalies }) => anomalies.length > 0))
      process.exitCode = 1
    return { claim: bench.claim, facts: machineFacts('18'), caught, sound }
  },
}
export default bench
