import { rename, writeFile } from 'node:fs/promises'
import { every, systemClock } from '../kernel/clock.ts'
import type { Http } from '../primitives/http/contract.ts'
import type { NPlusOne } from './n-plus-one.ts'
import { mergeSeen, readSeen, type Seen, seenFile } from './seen.ts'
import type { SlowStatement } from './slow-statements.ts'

/** Where what was seen is kept for `rung doctor`. */
export interface Sightings {
  slow(statement: SlowStatement): void
  nPlusOne(found: NPlusOne): void
}

const keptMax = 200
const writeEveryMs = 5_000

/** Keeps what was seen in the data directory, where `rung doctor` finds it: a few seconds later, and at the end. */
export function keepSightings(http: Http, dataDir: string): Sightings {
  let fresh: Seen[] = []
  let writing: Promise<void> = Promise.resolve()
  const now = () => new Date(systemClock.now()).toISOString()

  async function write(): Promise<void> {
    if (fresh.length === 0) return
    const batch = fresh
    fresh = []
    const file = seenFile(dataDir)
    const all = mergeSeen(await readSeen(dataDir), batch, keptMax)
    // Whole or not at all; where it cannot be written the app has other worries.
    await writeFile(`${file}.new`, JSON.stringify(all, null, 1), { mode: 0o600 })
      .then(() => rename(`${file}.new`, file))
      .catch(() => {})
  }
  const flush = () => {
    writing = writing.then(write)
    return writing
  }
  function add(entry: Seen): void {
    fresh = mergeSeen(fresh, [entry], keptMax)
  }

  const stop = every(writeEveryMs, flush)
  http.addHook('onClose', async () => {
    stop()
    await flush()
  })
  return {
    slow({ statement, name, durationMs, lockTimeout, plan }) {
      const worst = { worstMs: Math.round(durationMs), ...(plan !== undefined && { plan }) }
      const kind = lockTimeout ? 'lock-wait' : 'slow'
      add({ kind, statement, count: 1, site: '', route: name ?? '', at: now(), ...worst })
    },
    nPlusOne({ statement, name, site }) {
      add({ kind: 'n-plus-one', statement, count: 1, site, route: name, at: now() })
    },
  }
}
