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

/** Reads what the reporter has written. */
export function parseOutcomes(text: string): Outcome[] {
  return text
    .split('\n')
    .filter(Boolean)
    .map((line) => JSON.parse(line) as Outcome)
}
