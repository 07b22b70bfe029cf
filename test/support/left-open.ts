/**
 * Loaded before each test file: ends the file when something is left open after its last test, and lets it fail. Node itself would wait for ever.
 * Processes that tests start inherit this; they are none of its business.
 */
import { after } from 'node:test'

/** For the hooks that stop engines, on a machine that may be busy. */
const stopsWithinMs = 180_000

if (process.argv[1]?.endsWith('.test.ts')) {
  after(() => {
    const end = () => {
      console.error(`left open after the last test: ${process.getActiveResourcesInfo().join(', ')}`)
      process.exit(1)
    }
    setTimeout(end, stopsWithinMs).unref()
  })
}
