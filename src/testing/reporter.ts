import { fileURLToPath } from 'node:url'

/** How one test or suite ended. */
export interface Outcome {
  readonly file: string
  /** With the names of its suites, as `fullName` of its context. */
  readonly name: string
  readonly failed: boolean
  /** The runner's word for what went wrong: `testCodeFailure`, `hookFailed`, `subtestsFailed` … */
  readonly cause?: string
  /** The beginning of its error, in one line. */
  readonly error?: string
}

export interface FailedTest {
  readonly file: string
  /** With the names of its suites: `orders > are paid once`. */
  readonly name: string
  readonly error: string | undefined
}

/** What of an event of `node --test` is read here. */
interface TestEvent {
  type: string
  data: {
    name: string
    nesting: number
    file?: string
    todo?: boolean | string
    details?: { error?: { failureType?: string; message?: string; cause?: unknown } }
  }
}

/** For `--test-reporter`. */
export const reporterFile = fileURLToPath(import.meta.url)

/** A reporter that writes one `Outcome` in a line. */
export default async function* outcomes(events: AsyncIterable<TestEvent>): AsyncGenerator<string> {
  /** The names around the test that the events are about: they come in the order of the tests. */
  const names: string[] = []
  for await (const { type, data } of events) {
    if (type === 'test:start') names.splice(data.nesting, names.length, data.name)
    if (type !== 'test:pass' && type !== 'test:fail') continue
    const { failureType, message, cause } = data.details?.error ?? {}
    const text = (cause as Error | undefined)?.message ?? (typeof cause === 'string' ? cause : message)
    const failed = type === 'test:fail' && data.todo === undefined
    const outcome: Outcome = {
      file: data.file ?? '',
      name: [...names.slice(0, data.nesting), data.name].join(' > '),
      failed,
      ...(failed && failureType !== undefined && { cause: failureType }),
      ...(failed && text !== undefined && { error: text.replace(/\s+/g, ' ').trim().slice(0, 300) }),
    }
    yield `${JSON.stringify(outcome)}\n`
  }
}

/** A suite fails with its tests, and a test with the suite that never began: what counts is where it went wrong. */
const followsFromOthers = new Set(['subtestsFailed', 'cancelledByParent'])

/** Compares two runs of the same tests: which have failed in the first one only, and which in both. Pure. */
export function failuresOf(run: readonly Outcome[], other: readonly Outcome[]): { only: Outcome[]; both: Outcome[] } {
  const failedThere = new Set(other.filter(({ failed }) => failed).map(keyOf))
  const failed = run.filter((one) => one.failed && !followsFromOthers.has(one.cause ?? ''))
  return {
    only: failed.filter((one) => !failedThere.has(keyOf(one))),
    both: failed.filter((one) => failedThere.has(keyOf(one))),
  }
}

export function keyOf({ file, name }: Pick<Outcome, 'file' | 'name'>): string {
  return `${file}\0${name}`
}

export function asFailedTest({ file, name, error }: Outcome): FailedTest {
  return { file, name, error }
}
