import { availableParallelism } from 'node:os'
import path from 'node:path'
import type { TestEvent } from 'node:test/reporters'

const filesMax = 10

/** A reporter: prints the test files that took longest, once all have ended. */
export default async function* slowest(events: AsyncIterable<TestEvent>): AsyncGenerator<string> {
  const files: { file: string; ms: number }[] = []
  for await (const { type, data } of events) {
    if (type === 'test:summary' && data.file !== undefined) files.push({ file: data.file, ms: data.duration_ms })
  }
  if (files.length < 2) return
  const total = files.reduce((sum, { ms }) => sum + ms, 0)
  files.sort((one, other) => other.ms - one.ms)
  yield `slowest of ${files.length} files, which took ${seconds(total)} s together on ${availableParallelism()} processors\n`
  for (const { file, ms } of files.slice(0, filesMax)) {
    yield `${seconds(ms).padStart(7)} s  ${path.relative(process.cwd(), file)}\n`
  }
}

function seconds(ms: number): string {
  return (ms / 1000).toFixed(1)
}
