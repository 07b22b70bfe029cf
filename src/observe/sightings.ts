import { every, systemClock } from '../kernel/clock.ts'
import type { Database } from '../primitives/data/contract.ts'
import type { Http } from '../primitives/http/contract.ts'
import type { NPlusOne } from './n-plus-one.ts'
import { joined, type Sighting, saveSightings, storable } from './sighting-table.ts'
import type { SlowStatement } from './slow-statements.ts'

/** Takes what was noticed, for `rung statements` and `rung doctor`. */
export interface SightingSink {
  slow(statement: SlowStatement): void
  nPlusOne(found: NPlusOne): void
}

const writeEveryMs = 5_000
/** Sightings that may wait to be written. Further new ones are dropped. */
const waitingMax = 200

/** Adds what was seen to the database: a few seconds later, and at the end. */
export function keepSightings(
  http: Http,
  database: Database,
  failed: (error: unknown) => void = () => {},
): SightingSink {
  let waiting = new Map<string, Sighting>()
  let writing: Promise<void> = Promise.resolve()

  async function write(): Promise<void> {
    if (waiting.size === 0) return
    const before = waiting
    waiting = new Map()
    await saveSightings(database, [...before.values()]).catch((error) => {
      failed(error)
      const since = waiting
      waiting = before // the next one tries again
      for (const entry of since.values()) put(entry)
    })
  }
  const flush = () => {
    writing = writing.then(write)
    return writing
  }
  function put(entry: Sighting): void {
    const known = waiting.get(entry.fingerprint)
    if (known) waiting.set(entry.fingerprint, joined(known, entry))
    else if (waiting.size < waitingMax) waiting.set(entry.fingerprint, entry)
  }
  function add(entry: Omit<Sighting, 'fingerprint' | 'count' | 'firstAt' | 'at'>): void {
    const at = new Date(systemClock.now()).toISOString()
    put(storable({ ...entry, count: 1, firstAt: at, at }))
  }

  const stop = every(writeEveryMs, flush)
  http.addHook('onClose', async () => {
    stop()
    await flush()
  })
  return {
    slow({ statement, name, module = null, durationMs, rowCount: rows, lockTimeout, plan = null }) {
      const took = { totalMs: durationMs, worstMs: Math.round(durationMs), rows, plan }
      add({ kind: lockTimeout ? 'lock-wait' : 'slow', statement, site: '', route: name ?? '', module, ...took })
    },
    nPlusOne({ statement, name, site, module = null }) {
      const took = { totalMs: null, worstMs: null, rows: null, plan: null }
      add({ kind: 'n-plus-one', statement, site, route: name, module, ...took })
    },
  }
}
