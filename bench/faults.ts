import { spawnSync } from 'node:child_process'
import type { Bench } from './run.ts'
import { root } from './support/processes.ts'
import { machineFacts, progress, table } from './support/report.ts'

const files = ['test/rungs/conduit-faults.test.ts', 'test/rungs/shop-kill.test.ts']
const seededArticles = 2_000

/** What a test file prints in the end. */
interface Told {
  killed?: string[]
  repeated?: Record<string, number>
  unknown?: number
}

interface Run {
  file: string
  seed: number
  articles: number
  passed: boolean
  killed: Record<string, number>
  /** Requests that were sent again, by why. */
  repeated: Record<string, number>
  /** POSTs without a key whose process was killed. */
  unknown: number
}

/** The suites of both apps at 100k, again and again, while parts are killed at random moments: the even seeds on a seeded database. */
const bench: Bench = {
  claim: 'while parts of rung 100k are killed, no request fails that a client could not safely send again',
  async run({ json, rounds = 20 }) {
    const runs: Run[] = []
    for (let seed = 1; seed <= rounds; seed += 1) {
      for (const file of files) {
        const articles = seed % 2 === 0 && file.includes('conduit') ? seededArticles : 0
        const run = runOnce(file, seed, articles)
        runs.push(run)
        const { passed, killed, repeated, unknown } = run
        if (!json)
          progress(
            `${file} seed ${seed}: ${passed ? 'passed' : 'FAILED'} ${JSON.stringify({ killed, repeated, unknown })}`,
          )
      }
    }
    const failed = runs.filter(({ passed }) => !passed)
    const kills = runs.reduce((sum, { killed }) => sum + sumOf(killed), 0)
    if (!json) {
      const rows = files.map((file) => {
        const own = runs.filter((run) => run.file === file)
        const counts = [own.length, own.filter(({ passed }) => !passed).length]
        const more = [
          own.reduce((sum, { killed }) => sum + sumOf(killed), 0),
          own.reduce((sum, { repeated }) => sum + sumOf(repeated), 0),
          own.reduce((sum, { unknown }) => sum + unknown, 0),
        ]
        return [file, ...[...counts, ...more].map(String)]
      })
      progress(table([['', 'runs', 'failed', 'kills', 'sent again', 'unknown POSTs without a key'], ...rows]))
    }
    if (failed.length > 0) process.exitCode = 1
    return { claim: bench.claim, facts: machineFacts('18'), kills, failed: failed.length, runs }
  },
}
export default bench

const sumOf = (counts: Record<string, number>) => Object.values(counts).reduce((sum, one) => sum + one, 0)

function runOnce(file: string, seed: number, articles: number): Run {
  const { status, stdout, stderr } = spawnSync(
    process.execPath,
    ['--conditions=rung-source', '--test', '--test-timeout=600000', file],
    {
      cwd: root,
      encoding: 'utf8',
      maxBuffer: 2 ** 28,
      env: { ...process.env, RUNG_TEST_SEED: String(seed), RUNG_TEST_ARTICLES: String(articles) },
    },
  )
  const text = `${stdout}${stderr}`
  const told = JSON.parse(/^\{"killed".*$/m.exec(text)?.[0] ?? '{}') as Told
  if (status !== 0) progress(text.slice(text.indexOf('failing tests')).slice(0, 4_000))
  const killed: Record<string, number> = {}
  for (const name of told.killed ?? []) killed[name] = (killed[name] ?? 0) + 1
  return {
    file,
    seed,
    articles,
    passed: status === 0,
    killed,
    repeated: told.repeated ?? {},
    unknown: told.unknown ?? 0,
  }
}
