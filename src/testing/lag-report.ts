import { asFailedTest, type FailedTest, failuresOf, keyOf, type Outcome } from './reporter.ts'

/** A read that a test has caused, and the last commit that it did not show, though that had ended. */
export interface LateRead {
  readonly file: string
  /** Full names of the tests that ran then. */
  readonly tests: readonly string[]
  readonly reader: Actor
  readonly writer: Actor
  /** How long before the read that commit had ended, ms. */
  readonly afterMs: number
}

/** `GET /notes`, or the name of a job; and whose request it was, if the app has asked. */
export interface Actor {
  readonly what: string
  readonly principal: string | undefined
}

export interface LateTest extends FailedTest {
  readonly reads: readonly Omit<LateRead, 'file' | 'tests'>[]
}

export interface LagReport {
  /** Tests that pass without lag and fail with it. */
  readonly late: readonly LateTest[]
  /** Tests that fail without lag too. */
  readonly broken: readonly FailedTest[]
  /** How many tests have read something late, whether they minded or not. */
  readonly testsReadLate: number
}

/**
 * Compares two runs of the same tests. Pure.
 * @param again without lag, of those files in which a test failed
 */
export function lagReport(
  withLag: readonly Outcome[],
  again: readonly Outcome[],
  reads: readonly LateRead[],
): LagReport {
  const { only, both } = failuresOf(withLag, again)
  return {
    late: only.map((one) => ({ ...asFailedTest(one), reads: readsOf(one, reads) })),
    broken: both.map(asFailedTest),
    testsReadLate: new Set(reads.flatMap(({ file, tests }) => tests.map((name) => keyOf({ file, name })))).size,
  }
}

/** Those of a failed hook are of no test. A test that a helper defines is told with the helper's file. */
function readsOf({ file, name, cause }: Outcome, reads: readonly LateRead[]): LateTest['reads'] {
  const named = reads.filter(({ tests }) => (cause === 'hookFailed' ? tests.length === 0 : tests.includes(name)))
  const here = named.filter((read) => read.file === file)
  return (here.length > 0 ? here : named).map(({ reader, writer, afterMs }) => ({ reader, writer, afterMs }))
}
