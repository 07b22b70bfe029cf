import { messageOf } from '../../kernel/errors.ts'
import type { Http } from '../../primitives/http/contract.ts'
import type { Extension } from '../../runtime/boot.ts'
import { openRecordLease } from '../../runtime/wire.ts'
import { nameOfProcess } from '../../runtime/work.ts'
import { eachMinute } from '../each-minute.ts'
import type { Figures } from '../figures.ts'
import { atRequestEnd } from '../request-end.ts'
import { type Measured, nothing } from './frame.ts'
import { type Lookout, looker } from './look.ts'
import { createRecorder, type RecorderParts } from './recorder.ts'
import { addTo } from './sketch.ts'
import { type Metric, recordedOfEach, recordedOnce, snapshotOf } from './snapshot.ts'

/** Records each whole minute of the wall clock for as long as the app runs, and what is left at its stop. */
export function keepRecord(http: Http, parts: RecorderParts): void {
  const recorder = createRecorder(parts)
  eachMinute(http, { work: recorder.record, end: recorder.end })
}

export interface RecordOptions {
  /** Servers of this machine whose CPU and memory are recorded. */
  servers: Lookout['servers']
  /** The table with a row for each registered user: `accounts.account`. */
  users?: string | undefined
  /** Returns figures of a process that archives beside those of the app. */
  archiver?: (() => Promise<readonly Metric[]>) | undefined
}

/** What a recorder of a running app works with. */
export function recorderParts(
  figures: Figures,
  http: Http,
  { data, primitives, log }: Pick<Parameters<Extension>[1], 'data' | 'primitives' | 'log'>,
  { servers, users: table, archiver = async () => [] }: RecordOptions,
): RecorderParts {
  const { database } = primitives.stores.main
  const users = table === undefined ? undefined : { database, table }
  return {
    node: nameOfProcess(),
    database,
    lease: openRecordLease(database),
    async read(shared) {
      const own = await figures.read([...recordedOfEach, ...(shared ? recordedOnce : [])])
      return snapshotOf([...own, ...(shared ? await archiver() : [])])
    },
    look: looker({ databases: data.databases, servers, users }),
    take: activeUsers(http),
    trouble(error) {
      if (error === undefined) log.info({ event: 'recorded' }, 'measurements are recorded again')
      else log.warn({ event: 'not-recorded', err: error }, `${notRecorded}: ${messageOf(error)}`)
    },
  }
}

/** Who sent requests: their number only. */
function activeUsers(http: Http): () => Measured {
  let seen: Record<string, number> = {}
  atRequestEnd(http, ({ scope }) => {
    if (scope?.principal) addTo(seen, scope.principal.id)
  })
  return () => {
    const users = seen
    seen = {}
    return Object.keys(users).length === 0 ? nothing : { ...nothing, sketches: { users_active: { '{}': users } } }
  }
}

const notRecorded = 'measurements could not be recorded; those of the last six hours are kept and recorded later'
