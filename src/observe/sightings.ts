import { every, systemClock } from '../kernel/clock.ts'
import type { Database } from '../primitives/data/contract.ts'
import type { Http } from '../primitives/http/contract.ts'
import { saveReport } from '../primitives/upkeep/reports.ts'
import { nameOfProcess } from '../runtime/work.ts'
import type { NPlusOne } from './n-plus-one.ts'
import { mergeSeen, type Seen, seenKind, seenMax, storable } from './seen.ts'
import type { SlowStatement } from './slow-statements.ts'

/** Where what was seen is kept for `rung doctor`. */
export interface Sightings {
  slow(statement: SlowStatement): void
  nPlusOne(found: NPlusOne): void
}

const writeEveryMs = 5_000

/** Keeps what was seen in the database, where `rung doctor` finds it: a few seconds later, and at the end. */
export function keepSightings(http: Http, database: Database, failed: (error: unknown) => void = () => {}): Sightings {
  const process = nameOfProcess()
  let seen: Seen[] = []
  let isWritten = true
  let writing: Promise<void> = Promise.resolve()
  const now = () => new Date(systemClock.now()).toISOString()

  async function write(): Promise<void> {
    if (isWritten) return
    isWritten = true
    await saveReport(database, process, seenKind, seen).catch((error) => {
      failed(error)
      isWritten = false // the next one tries again
    })
  }
  const flush = () => {
    writing = writing.then(write)
    return writing
  }
  function add(entry: Seen): void {
    seen = mergeSeen(seen, [storable(entry)], seenMax)
    isWritten = false
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
