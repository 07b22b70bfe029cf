import path from 'node:path'
import { RungError } from '../kernel/errors.ts'
import { type Duration, formatMs, toMs } from '../kernel/units.ts'
import { type Actor, type LagReport, type LateTest, lagReport } from '../testing/lag-report.ts'
import { type Lag, lateReadsIn } from '../testing/late-replica.ts'
import type { Outcome } from '../testing/reporter.ts'
import type { TestServer } from '../testing/server.ts'
import { type Input, type Output, type Result, result } from './command.ts'
import { environmentFor, printByFile, runReported, type TestRun } from './test-run.ts'

/** Test apps set `RUNG_LAG_MS` to its maximum of 60 s. This stays well below, so the replica is always read. */
const lagMsMax = 30_000

/** How late `--lag` wants the replica. @throws CONFIG_INVALID */
export function lagOf({ values: { lag } }: Input): Lag | undefined {
  if (lag === undefined || lag === 'paused') return lag
  const ms = toMs(lag as Duration)
  if (Number.isInteger(ms) && ms >= 10 && ms <= lagMsMax) return ms
  throw new RungError('CONFIG_INVALID', `--lag must be a time from 10ms to 30s, or "paused"; it is "${lag}".`)
}

interface LagView extends LagReport {
  files: readonly string[]
  passed: boolean
  /** Milliseconds, or `paused`. */
  lag: Lag
}

/** Runs tests with lag, those files in which one fails without it too, and compares. */
export async function runWithLag(lag: Lag, server: TestServer, run: TestRun): Promise<Result> {
  const { files, options, input, say, isStopped } = run
  say(`With a replica that is ${lagText(lag)}:`)
  // One file after the other: each test app lets the replica catch up, for all of them.
  const withLag = await runReported(environmentFor(server), {
    ...run,
    options: ['--test-concurrency=1', ...options],
  })
  const failed = new Set(withLag.outcomes.filter((one) => one.failed).map(({ file }) => file))
  const again: Outcome[] = []
  if (failed.size > 0 && !isStopped()) {
    const some = files.filter((file) => failed.delete(path.normalize(file)))
    say('Without a replica, the files in which a test has failed:')
    // A test that a helper defines is told with the helper's file.
    const second = await runReported(environmentFor({ url: server.url }), {
      ...run,
      files: failed.size > 0 ? files : some,
    })
    again.push(...second.outcomes)
  }
  const ran = { files, passed: withLag.code === 0, lag }
  if (isStopped()) return result({ ...ran, passed: false }, () => {}, withLag.code || 1) // nothing can be compared
  const reads = lateReadsIn(server.replica!).map((read) => ({ ...read, file: path.relative(input.cwd, read.file) }))
  const view: LagView = { ...ran, ...lagReport(withLag.outcomes, again, reads) }
  return result(view, () => print(view, input.out), withLag.code)
}

function lagText(lag: Lag): string {
  return lag === 'paused' ? 'paused' : `${formatMs(lag)} late`
}

const readsMax = 3

function print({ lag, late, broken, testsReadLate, passed }: LagView, out: Output): void {
  if (late.length > 0) {
    out.line(`These tests pass without lag and fail with it (the replica was ${lagText(lag)}):`)
    out.line()
    printByFile(late, out, ({ error, reads }) => [...(error === undefined ? [] : [error]), ...readLines(reads)])
    out.line()
    for (const text of advice) out.line(text)
  }
  if (broken.length > 0) {
    if (late.length > 0) out.line()
    out.line('These tests fail without lag too:')
    out.line()
    printByFile(broken, out, () => [])
  }
  if (late.length === 0 && broken.length === 0 && passed)
    out.line(
      testsReadLate === 0
        ? 'All tests pass with lag. None of them has read anything late, so this says little.'
        : `All tests pass with lag. Tests that have read something late: ${testsReadLate}.`,
    )
}

function readLines(reads: LateTest['reads']): string[] {
  if (reads.length === 0) return ['No late read is known of it: it fails at times, or because of another.']
  const lines = reads
    .slice(-readsMax)
    .map(({ reader, writer, afterMs }) => `${actor(reader)} missed ${actor(writer)}, ${formatMs(afterMs)} old`)
  return reads.length > readsMax ? [...lines, `and ${reads.length - readsMax} more`] : lines
}

function actor({ what, principal }: Actor): string {
  return principal === undefined ? what : `${what} (${principal})`
}

const advice = [
  'A session sees what it wrote and saw. What others write may come later.',
  '- If it is one user, send all requests with one app.client() or app.as(user).',
  '- If the route decides by what others have written, read that inside data.write.',
  '- If later will do, let time pass in the test: await app.clock.advance("5s").',
]
